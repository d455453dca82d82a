"""A checkpoint in the original format, loaded, against the original's assembly of visual tokens written out plainly."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file

from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import Checkpoint, load_checkpoint
from framefusion.inference.llava_video.configuration import PUBLISHED_TOWERS, translate
from tests.reference import llava_video as original
from tests.support import original_llava_video as tiny
from tests.support.tiny import moving_clip

HEADS = tiny.TOWER_HEADS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llava-video")
    tiny.save(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder))


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return tiny.weights()


def inputs_of(checkpoint: Checkpoint, kind: str, *visuals: np.ndarray, text: str = "what?") -> dict[str, torch.Tensor]:
    content = [*({"type": kind} for _ in visuals), {"type": "text", "text": text}]
    prompt = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    options = {"do_sample_frames": False} if kind == "video" else {}
    given = [Image.fromarray(visual) for visual in visuals] if kind == "image" else list(visuals)
    return dict(checkpoint.processor(text=[prompt], return_tensors="pt", **{f"{kind}s": given}, **options))


@torch.no_grad()
def embeddings_of(checkpoint: Checkpoint, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder reads (L, D), and the logits (L, V)."""
    seen: dict[str, torch.Tensor] = {}
    hook = checkpoint.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    logits = checkpoint.model(**inputs).logits
    hook.remove()
    return seen["inputs_embeds"][0], logits[0]


@cache
def qwen2() -> hf.Qwen2ForCausalLM:
    """The decoder with the original's weights under the original's names, which are Qwen2's."""
    config = hf.Qwen2Config(
        vocab_size=tiny.VOCABULARY,
        hidden_size=tiny.WIDTH,
        intermediate_size=tiny.HIDDEN_MLP,
        num_hidden_layers=tiny.LAYERS,
        num_attention_heads=tiny.HEADS,
        num_key_value_heads=tiny.KV_HEADS,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )
    model = hf.Qwen2ForCausalLM(config).eval()
    found = model.load_state_dict(
        {n: w for n, w in tiny.weights().items() if "vision" not in n and "mm_" not in n and "newline" not in n}
    )
    assert not found.missing_keys and not found.unexpected_keys
    return model


@torch.no_grad()
def expected(
    inputs: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], visual: torch.Tensor, token: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Text embeddings up to the picture, the picture's tokens, the rest; and the decoder's logits."""
    ids = inputs["input_ids"][0]
    columns = (ids == token).nonzero().flatten()
    words = weights["model.embed_tokens.weight"]
    whole = torch.cat((words[ids[: columns[0]]], visual, words[ids[columns[-1] + 1 :]]))
    return whole, qwen2()(inputs_embeds=whole[None]).logits[0]


def assert_same(found: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_video_gives_the_original_s_tokens_and_logits(checkpoint, weights, frames):
    inputs = inputs_of(checkpoint, "video", moving_clip(frames, 40, 40))
    visual = original.video_tokens(weights, inputs["pixel_values_videos"][0], HEADS)
    assert visual.shape[0] == frames * 3 * 4
    found = embeddings_of(checkpoint, inputs)
    assert_same(found, expected(inputs, weights, visual, checkpoint.model.config.video_token_id))


@pytest.mark.parametrize("mode", ["average", "max"])
def test_the_other_ways_to_pool(weights, tmp_path, mode):
    tiny.save(tmp_path, mm_spatial_pool_mode=mode)
    checkpoint = load_checkpoint(str(tmp_path))
    inputs = inputs_of(checkpoint, "video", moving_clip(3, 40, 40))
    visual = original.video_tokens(weights, inputs["pixel_values_videos"][0], HEADS, mode)
    assert visual.shape[0] == 3 * 2 * 3
    found = embeddings_of(checkpoint, inputs)
    assert_same(found, expected(inputs, weights, visual, checkpoint.model.config.video_token_id))


@pytest.mark.parametrize("most", [4, 1])
@pytest.mark.parametrize(("size", "tiles"), [((20, 34), (1, 2)), ((40, 22), (2, 1)), ((57, 16), (2, 1))])
def test_an_image_gives_the_original_s_tokens(weights, tmp_path, size, tiles, most):
    tiny.save(tmp_path, image_aspect_ratio=f"anyres_max_{most}", image_grid_pinpoints=[[40, 20], [20, 40]])
    checkpoint = load_checkpoint(str(tmp_path))
    inputs = inputs_of(checkpoint, "image", moving_clip(1, *size)[0])
    assert inputs["pixel_values"].shape[1] == 3 and inputs["image_sizes"].tolist() == [list(size)]
    visual = original.image_tokens(weights, inputs["pixel_values"][0], HEADS, size, tiles, most)
    found = embeddings_of(checkpoint, inputs)
    assert_same(found, expected(inputs, weights, visual, checkpoint.model.config.image_token_id))


def test_frames_are_stretched_to_the_tower_s_size_and_centred(checkpoint):
    """The original resizes a frame without keeping its shape, and takes 0.5 for mean and deviation."""
    white = np.full((2, 24, 40, 3), 255, np.uint8)
    pixels = inputs_of(checkpoint, "video", white)["pixel_values_videos"]
    assert pixels.shape == (1, 2, 3, tiny.IMAGE, tiny.IMAGE)
    torch.testing.assert_close(pixels, torch.ones_like(pixels))


def test_the_prompt_has_the_published_conversation_format(checkpoint):
    text = checkpoint.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Why?"}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<video>\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_published_sizes_are_those_of_transformers_own_conversion(tmp_path):
    """Frames of 27 x 27 patches become 14 rows of 14 and a newline; nothing is looked up on a hub."""
    (tower,) = PUBLISHED_TOWERS
    config = translate("published", tiny.settings(tower, image_grid_pinpoints="(1x1),...,(6x6)"))
    stock = hf.LlavaOnevisionConfig()
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size"):
        assert getattr(config.vision_config, key) == getattr(stock.vision_config, key)
    assert sorted(config.image_grid_pinpoints) == sorted(stock.image_grid_pinpoints)
    assert (config.patches_per_side, config.pooled_side) == (27, 14)


def test_a_saved_model_loads_again(checkpoint, tmp_path):
    checkpoint.model.save_pretrained(tmp_path)
    checkpoint.processor.tokenizer.save_pretrained(tmp_path)
    again = load_checkpoint(str(tmp_path)).model
    for (name, one), (other_name, other) in zip(
        checkpoint.model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other_name and torch.equal(one, other)


WRONG = {
    "one newline per clip": ({"mm_newline_position": "one_token"}, "mm_newline_position"),
    "slow and fast frames": ({"add_faster_video": True}, "add_faster_video"),
    "another stride": ({"mm_spatial_pool_stride": 4}, "mm_spatial_pool_stride"),
    "another tower": ({"mm_vision_tower": "openai/clip-vit-large-patch14"}, "SigLIP"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_shapes_are_refused(tmp_path, case):
    changed, named = WRONG[case]
    tiny.save(tmp_path, **changed)
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(str(tmp_path))


def test_missing_weights_are_named(tmp_path):
    tiny.save(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        kept = {n: w for n, w in load_file(file).items() if "vision_tower" not in n}
        save_file(kept, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match="vision_tower"):
        load_checkpoint(str(tmp_path))
