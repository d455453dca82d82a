"""Clips, images and questions as LLaVA-Video was trained on them, from stock parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

from framefusion.inference.llava_video.configuration import LlavaVideoConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from framefusion.inference.video import Clip

IMAGE, VIDEO = "<image>", "<video>"
HALF = [0.5, 0.5, 0.5]
# The conversation format that the original names `qwen_1_5`.
TEMPLATE = (
    "{% if not messages or messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'video') %}<{{ part['type'] }}>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class LlavaVideoProcessor(LlavaOnevisionProcessor):
    """LLaVA-OneVision's processor, counting a newline after each row of a frame.

    pooled_side: rows, and patches in a row, of one frame.
    """

    pooled_side: int

    def replace_video_token(self, video_inputs: Mapping[str, Any], video_idx: int, **kwargs: Any) -> str:
        frames = len(video_inputs["pixel_values_videos"][video_idx])
        return self.video_token * (frames * self.pooled_side * (self.pooled_side + 1))

    def introduce(self, clip: Clip) -> str:
        """What the model is told about a clip in front of the question: its length and the time of every frame."""
        times = ",".join(f"{seconds:.2f}s" for seconds in clip.timestamps)
        return (
            f"The video lasts for {clip.duration:.2f} seconds, and {len(clip.frames)} frames are uniformly sampled "
            f"from it. These frames are located at {times}.Please answer the following questions related to this "
            "video.\n"
        )


def build_processor(config: LlavaVideoConfig, tokenizer: Any) -> LlavaVideoProcessor:
    """tokenizer: the checkpoint's; gets the two placeholders, which the original writes without a tokenizer."""
    tokenizer.add_tokens([IMAGE, VIDEO], special_tokens=True)
    tokenizer.padding_side = "left"
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    pixels = {"size": size, "image_mean": HALF, "image_std": HALF}
    processor = LlavaVideoProcessor(
        image_processor=LlavaOnevisionImageProcessor(**pixels, image_grid_pinpoints=config.image_grid_pinpoints),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(**pixels),
        num_image_tokens=config.patches_per_side**2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=config.vision_aspect_ratio,
        chat_template=TEMPLATE,
    )
    processor.pooled_side = config.pooled_side
    return processor
