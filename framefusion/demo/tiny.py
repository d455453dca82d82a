"""The embedded model: the stock Qwen2.5-VL architecture, made in a second. Its weights are untrained."""

from __future__ import annotations

import string
from typing import Any

from framefusion.answer.checkpoint import Checkpoint

NAME = "framefusion/tiny"
PAD, END, START, VISION_START, VISION_END, IMAGE, VIDEO = SPECIALS = (
    "<|endoftext|>",
    "<|im_end|>",
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
BYTES = 256
LAYERS, WIDTH, HEADS, KV_HEADS = 12, 128, 4, 2
TOWER_LAYERS, TOWER_WIDTH = 2, 64
SPREAD = 0.05
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'video') %}<|vision_start|><|{{ part['type'] }}_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _id(token: str) -> int:
    return BYTES + SPECIALS.index(token)


def tiny_checkpoint() -> Checkpoint:
    """Model and processor, the same at every call."""
    return Checkpoint(NAME, _model(), _processor(), trained=False)


def _config() -> Any:
    from transformers import Qwen2_5_VLConfig

    head = WIDTH // HEADS
    text = {
        "vocab_size": BYTES + len(SPECIALS),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 32768,
        "pad_token_id": _id(PAD),
        "eos_token_id": _id(END),
        "bos_token_id": None,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6],
        },
    }
    vision = {
        "depth": TOWER_LAYERS,
        "hidden_size": TOWER_WIDTH,
        "intermediate_size": 2 * TOWER_WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 1,
        "window_size": 112,
        "fullatt_block_indexes": [TOWER_LAYERS - 1],
    }
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO}
    ids |= {"vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **{name: _id(token) for name, token in ids.items()})


def _model() -> Any:
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2_5_VLForConditionalGeneration(_config())
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=SPREAD)
    # Untrained weights answer at random; keep to letters, so that a terminal can show it and no answer ends early.
    letters = _tokenizer().convert_tokens_to_ids(list(string.ascii_lowercase))
    others = torch.ones(model.lm_head.weight.shape[0], dtype=torch.bool)
    others[letters] = False
    with torch.no_grad():
        model.lm_head.weight[others] = 0.0
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = _id(PAD)
    return model.eval()


def _processor() -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    sizes = {"patch_size": 14, "temporal_patch_size": 1, "merge_size": 2}
    area = {"shortest_edge": 56 * 56, "longest_edge": 448 * 448 * 256}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, size=area),
        tokenizer=_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**sizes, size=area),
        chat_template=TEMPLATE,
    )


def _tokenizer() -> Any:
    """One token per byte of the text, then the special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE, "video_token": VIDEO},
    )
