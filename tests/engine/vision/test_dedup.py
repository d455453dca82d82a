"""What a tower gives when units that did not change are not encoded, against frames run one by one."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import Tensor

import framefusion as ff
from framefusion.inference.reduction import reduce_clips
from tests.reference.pixel_dedup import encoded_units, units_of_clip
from tests.support.naive_encoding import blended_by_hand, features_by_hand, features_in, tower_of
from tests.support.tiny import FAMILIES as FAMILIES_OF_TINY
from tests.support.tiny import build_model, moving_clip, processor, prompt, redraw

GROUPED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "video_llama_3")
PICTURES = ("llava_onevision", "llava", "llava_qwen", "llava_next_video", "internvl", "smolvlm", "gemma3")
FAMILIES = (*GROUPED, *PICTURES)
COUNTED = [name for name in FAMILIES if name != "smolvlm"]
CLIP = moving_clip(frames=8, change=0.3)
SEGMENTS = [("video", CLIP), ("text", "what happens here?")]
OTHER = [("text", "and "), ("video", moving_clip(frames=8, seed=3, change=0.2)), ("text", "then?")]

SOME = 0.6

every_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def model_of(family: str, attn: str = "sdpa") -> Any:
    if family == "smolvlm":
        pytest.importorskip("num2words")
    return build_model(family, attn=attn)


def logits(family: str, method: ff.Method | None, *rows: Any, attn: str = "sdpa") -> tuple[Tensor, Any]:
    model, inputs = model_of(family, attn), prompt(family, list(rows))
    with torch.no_grad():
        if method is None:
            return model(**inputs).logits, None
        with reduce_clips(model, method, processor(family)) as reduction:
            return model(**inputs).logits, reduction.report


def encoded_features(model: Any, family: str, method: ff.Method) -> tuple[Any, dict[str, Any]]:
    """Pixels, and everything else the tower was given and gave, in one pass of the reduced model."""
    seen: dict[str, Any] = {}

    def note(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.update(kwargs, features=features_in(family, output), **({"pixels": args[0]} if args else {}))

    with torch.no_grad(), reduce_clips(model, method, processor(family)):
        handle = tower_of(model).register_forward_hook(note, with_kwargs=True)
        model(**prompt(family, [SEGMENTS]))
        handle.remove()
    pixels = next(seen[name] for name in ("pixels", "pixel_values", "hidden_states") if name in seen)
    return pixels, seen


@pytest.mark.parametrize("blend", [False, True], ids=["copy", "blend"])
@pytest.mark.parametrize("reuse", [True, False], ids=["reuse", "drop"])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@every_family
def test_features_are_those_of_frames_with_stale_keys(family: str, attn: str, reuse: bool, blend: bool) -> None:
    """An encoded unit reads its whole frame, in which the others show the keys and values of their last encoding."""
    method = ff.PixelDedup(threshold=SOME, max_share=1.0, refresh=3, reuse=reuse, blend=blend)
    assert_features(model_of(family, attn), model_of(family, "eager"), family, method)


def assert_features(model: Any, eager: Any, family: str, method: ff.PixelDedup) -> None:
    """Features of the reduced `model` are those by hand. eager: the same model with eager attention."""
    pixels, seen = encoded_features(model, family, method)
    found, grid = seen["features"], seen.get("grid_thw")
    units = units_of_clip(family, pixels, grid, processor(family))
    columns = round(units.shape[1] ** 0.5)
    encoded, weight = map(torch.tensor, encoded_units(units.tolist(), columns, SOME, 3))
    assert 0.2 < float(encoded.float().mean()) < 0.95
    expected = features_by_hand(eager, family, pixels, grid, encoded, method.reuse)
    if method.blend is not False:
        expected = blended_by_hand(expected, encoded, weight)
        assert bool((weight > 0).any())
    assert torch.allclose(found.reshape(expected.shape), expected, atol=1e-4)


@pytest.mark.parametrize("reuse", [True, False], ids=["reuse", "drop"])
def test_features_of_another_tower_in_the_same_family(reuse: bool) -> None:
    """LLaVA with DINOv2, whose positions are interpolated and whose blocks scale what they add."""
    config = FAMILIES_OF_TINY["llava"].config(4)
    config.vision_config = hf.Dinov2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=7
    )
    model = hf.LlavaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    redraw(model, 0)
    method = ff.PixelDedup(threshold=SOME, max_share=1.0, refresh=3, reuse=reuse)
    assert_features(model, model, "llava", method)
    still = [("video", np.repeat(CLIP[:1], 4, 0)), ("text", "?")]
    inputs = prompt("llava", [still])
    with torch.no_grad():
        dense = model(**inputs).logits
        with reduce_clips(model, ff.PixelDedup(threshold=0.0), processor("llava")) as reduction:
            assert torch.equal(model(**inputs).logits, dense)
    assert reduction.report.patches * 4 == reduction.report.patches_dense


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@every_family
def test_encoding_everything_changes_no_bit(family: str, attn: str) -> None:
    dense, _ = logits(family, None, SEGMENTS, OTHER, attn=attn)
    found, report = logits(family, ff.PixelDedup(keep=1.0), SEGMENTS, OTHER, attn=attn)
    assert torch.equal(found, dense)
    assert report.patches == report.patches_dense > 0


@pytest.mark.parametrize("mode", ["copy", "merge"])
@every_family
def test_a_batch_equals_its_rows(family: str, mode: str) -> None:
    method = ff.PixelDedup(threshold=SOME, max_share=1.0, mode=mode)  # type: ignore[arg-type]
    both, report = logits(family, method, SEGMENTS, OTHER)
    patches = 0
    for number, row in enumerate((SEGMENTS, OTHER)):
        alone, own = logits(family, method, row)
        patches += own.patches
        assert torch.allclose(both[number, -1], alone[0, -1], atol=1e-3)
    assert report.patches == patches < report.patches_dense


@every_family
def test_frames_that_repeat_are_encoded_once_and_equal_to_the_bit(family: str) -> None:
    still = np.repeat(CLIP[:1], 8, 0)
    row = [("video", still), ("text", "what happens here?")]
    dense, _ = logits(family, None, row)
    found, report = logits(family, ff.PixelDedup(threshold=0.0), row)
    assert torch.equal(found, dense)
    frames = 4 if family.startswith("qwen") else 8
    assert report.patches * frames == report.patches_dense


@every_family
def test_merged_tokens_leave_the_prompt(family: str) -> None:
    still = np.repeat(CLIP[:2], 4, 0)
    row = [("video", still), ("text", "what?")]
    _, copied = logits(family, ff.PixelDedup(threshold=0.0), row)
    _, merged = logits(family, ff.PixelDedup(threshold=0.0, mode="merge"), row)
    assert copied.kept_fraction == 1.0 and copied.patches == merged.patches
    newlines = {"llava_onevision": 1}.get(family, 0)
    if family == "video_llama_3":
        return  # its processor took them out before
    kept, total = merged.kept_tokens - newlines, merged.visual_tokens - newlines
    if family != "llava_qwen":
        assert kept * merged.patches_dense == total * merged.patches
    assert kept < total


@every_family
def test_undo_is_exact(family: str) -> None:
    model = model_of(family)
    dense, _ = logits(family, None, SEGMENTS)
    hooks = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in tower_of(model).modules()]
    logits(family, ff.PixelDedup(threshold=0.1), SEGMENTS)
    assert torch.equal(logits(family, None, SEGMENTS)[0], dense)
    assert [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in tower_of(model).modules()] == hooks


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "llava"])
@pytest.mark.parametrize(
    "behind",
    [
        ff.FrameFusion(cost=0.3, similarity_lower_bound=0.6),
        ff.FastV(keep=0.5, layer=2),
        ff.VisionZip(keep=0.5),
        ff.DivPrune(keep=0.5),
    ],
    ids=lambda method: method.facts.name,
)
@pytest.mark.parametrize("mode", ["copy", "merge"])
def test_any_method_follows(family: str, behind: ff.Method, mode: str) -> None:
    model, inputs = model_of(family), prompt(family, [SEGMENTS])
    chain = ff.Chain(ff.PixelDedup(threshold=SOME, max_share=1.0, mode=mode), behind)  # type: ignore[arg-type]
    with torch.no_grad(), ff.reduce(model, chain, processor=processor(family)) as reduction:
        if family == "llava":
            pytest.skip("its prompts show clips as pictures")
        answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] == inputs["input_ids"].shape[1] + 3
    report = reduction.report
    assert report.patches < report.patches_dense and report.kept_tokens < report.visual_tokens


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 64])
@every_family
def test_windows_of_frames_give_what_all_at_once_give(family: str, frames: int) -> None:
    """A unit of a later window reads the keys and values, and shows the features, that earlier windows left."""
    model = model_of(family)
    inputs = prompt(family, [SEGMENTS, OTHER])
    for method in (
        ff.PixelDedup(threshold=SOME, max_share=1.0, refresh=3),
        ff.PixelDedup(keep=1.0),
        ff.Uniform(keep=0.5),
    ):
        with torch.no_grad():
            with reduce_clips(model, method, processor(family)) as whole:
                expected = model(**inputs).logits
            with reduce_clips(model, method, processor(family), tower_frames=frames) as windowed:
                found = model(**inputs).logits
        assert torch.allclose(found, expected, atol=1e-4)
        assert windowed.report.patches == whole.report.patches
    assert "forward" not in vars(tower_of(model))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl"])
def test_windows_show_the_tower_to_methods_that_read_it(family: str) -> None:
    model, inputs = model_of(family), prompt(family, [SEGMENTS])
    for method in (
        ff.VisionZip(keep=0.5),
        ff.Chain(ff.PixelDedup(threshold=SOME, max_share=1.0), ff.VisionZip(keep=0.5)),
    ):
        answers = []
        for frames in (None, 2):
            with torch.no_grad(), ff.reduce(model, method, processor=processor(family), tower_frames=frames):
                answers.append(model(**inputs).logits)
        assert torch.allclose(*answers, atol=1e-4)
