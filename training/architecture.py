"""The embedded model before training: the stock Qwen2.5-VL classes, small, with a vocabulary of whole words."""

from __future__ import annotations

from typing import Any

from framefusion.evaluation.synthetic_questions import FPS, SIDE

PATCH, MERGE = 14, 2
CELL = PATCH * MERGE
# Tokens along one side of a frame.
GRID = SIDE // CELL
WIDTH, HEADS, KV_HEADS, MLP = 128, 4, 2, 320
# Rotary frequencies for time, rows and columns, from high to low. At the lowest ones four columns are all but the same
# place: shared out evenly, as large models do, no question about left and right was ever learned.
SECTIONS = [5, 1, WIDTH // HEADS // 2 - 6]
TOWER_WIDTH, TOWER_LAYERS, TOWER_HEADS = 96, 3, 4
SPECIALS = (
    "<|endoftext|>",
    "<|unknown|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
PAD, UNKNOWN, START, END, VISION_START, VISION_END, IMAGE, VIDEO = SPECIALS
VOCABULARY = """
? , . user assistant system a an and appear appeared are at background blue bottom change changed changes circle clip
colour cross cyan did digit does down end faster first flashed frame green happened happens how in is it last left many
middle move moved moves nothing of or order pink red right ring scene second seen shape show shown size slower square
start the there thing things third to top triangle up video was way what when where which white who why yellow yes no
0 1 2 3 4 5 6 7 8 9
"""
WORDS = tuple(VOCABULARY.split())
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'video') %}<|vision_start|><|{{ part['type'] }}_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


def token_id(token: str) -> int:
    return (*SPECIALS, *WORDS).index(token)


def build_config(layers: int) -> Any:
    """`layers` decoder layers; one position in time per frame at the yardstick's frame rate."""
    from transformers import Qwen2_5_VLConfig

    text = {
        "vocab_size": len(SPECIALS) + len(WORDS),
        "hidden_size": WIDTH,
        "intermediate_size": MLP,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "pad_token_id": token_id(PAD),
        "eos_token_id": token_id(END),
        "bos_token_id": None,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1000.0,
            "mrope_section": SECTIONS,
        },
    }
    vision = {
        "depth": TOWER_LAYERS,
        "hidden_size": TOWER_WIDTH,
        "intermediate_size": 2 * TOWER_WIDTH,
        "num_heads": TOWER_HEADS,
        "out_hidden_size": WIDTH,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 1,
        "tokens_per_second": int(FPS),
        "window_size": SIDE,
        "fullatt_block_indexes": list(range(TOWER_LAYERS)),
    }
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO}
    ids |= {"vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END}
    numbers = {name: token_id(token) for name, token in ids.items()}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **numbers)


def build_model(layers: int) -> Any:
    """Random weights; the caller seeds."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration(build_config(layers))
    model.generation_config.update(
        bos_token_id=None, eos_token_id=token_id(END), pad_token_id=token_id(PAD), do_sample=False
    )
    return model


def build_processor() -> Any:
    """Frames come to about SIDE × SIDE pixels, so that a clip of 32 frames has 512 visual tokens."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    sizes = {"patch_size": PATCH, "temporal_patch_size": 1, "merge_size": MERGE}
    area = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, size=area),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(**sizes, size=area),
        chat_template=TEMPLATE,
    )


def build_tokenizer() -> Any:
    """One token per word, lower case, with two courtesies for words people use instead."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIALS, *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace("color", "colour"), normalizers.Replace("object", "thing")]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    backend.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": IMAGE, "video_token": VIDEO},
    )
