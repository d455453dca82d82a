"""What leaving out units by their pixels refuses, and what it serves whole."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import OptionError, UnsupportedPointError
from framefusion.evaluation.shared_tower import shared_tower
from framefusion.inference.reduction import reduce_clips
from framefusion.models.pixel_range import HALF, pixel_range
from tests.support.naive_encoding import tower_of
from tests.support.tiny import build_model, moving_clip, processor, prompt

CLIP = moving_clip(frames=6, change=0.3)
SEGMENTS = [("video", CLIP), ("text", "what?")]
SOME = ff.PixelDedup(threshold=0.6)


def run(model: Any, inputs: dict, method: ff.Method, **options: Any) -> tuple[torch.Tensor, Any]:
    with torch.no_grad(), reduce_clips(model, method, **options) as reduction:
        return model(**inputs).logits, reduction.report


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision", "internvl"])
def test_stills_and_a_clip_of_one_frame_are_encoded_whole(family: str) -> None:
    model = build_model(family)
    rows = [[("image", CLIP[0]), ("text", "and"), ("image", CLIP[0]), ("text", "?")]]
    frames = 2 if family.startswith("qwen") else 1
    for inputs in (prompt(family, rows), prompt(family, [[("video", CLIP[:frames]), ("text", "?")]])):
        with torch.no_grad():
            dense = model(**inputs).logits
        with torch.no_grad(), ff.reduce(model, SOME) as reduction:
            assert torch.equal(model(**inputs).logits, dense)
        assert reduction.report.patches == reduction.report.patches_dense > 0


def test_pictures_of_unlike_sizes_are_clips_of_their_own() -> None:
    model = build_model("qwen2_5_vl")
    wide = moving_clip(frames=1, height=56, width=84)[0]
    inputs = prompt("qwen2_5_vl", [[("image", CLIP[0]), ("image", wide), ("image", CLIP[0]), ("text", "?")]])
    with torch.no_grad():
        dense = model(**inputs).logits
    with torch.no_grad(), ff.reduce(model, SOME, pictures_are_frames=True) as reduction:
        assert torch.equal(model(**inputs).logits, dense)
    assert reduction.report.patches == reduction.report.patches_dense


def test_a_picture_cut_into_tiles_is_encoded_whole() -> None:
    model = build_model("llava_next_video")
    inputs = prompt("llava_next_video", [[("image", moving_clip(frames=1, height=28, width=28)[0]), ("text", "?")]])
    with torch.no_grad():
        dense = model(**inputs).logits
    assert torch.equal(run(model, inputs, SOME)[0], dense)


def test_the_processor_says_how_pixels_were_normalised() -> None:
    own = processor("internvl")
    assert pixel_range("internvl", own, True).std == tuple(own.video_processor.image_std)
    assert pixel_range("internvl", None, True).std == (0.229, 0.224, 0.225)
    assert pixel_range("qwen3_vl", None, False) == HALF


@pytest.mark.parametrize("kind", ["gpt2", "mllama", "pixtral"])
def test_a_family_whose_tower_is_not_known_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedPointError, match="apart from the others") as error:
        pixel_range(kind, processor("llava"), False)
    assert error.value.hint


def test_a_tower_whose_attention_cannot_be_seen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("llava_onevision")
    attention = type(tower_of(model).encoder.layers[0].self_attn)
    monkeypatch.setattr(attention, "forward", lambda self, hidden_states, **_: (hidden_states, None))
    with pytest.raises(UnsupportedPointError, match="attention interface"):
        run(model, prompt("llava_onevision", [SEGMENTS]), SOME)


def test_gradient_checkpointing_of_the_tower_is_refused() -> None:
    model = build_model("llava_onevision").train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = prompt("llava_onevision", [SEGMENTS])
    with ff.reduce(model, SOME), pytest.raises(UnsupportedPointError, match="gradient checkpointing"):
        model(**inputs)


def test_gradients_reach_the_tower() -> None:
    model = build_model("qwen2_5_vl")
    inputs = prompt("qwen2_5_vl", [SEGMENTS])
    with ff.reduce(model, SOME, tower_frames=2):
        model(**inputs).logits.float().square().mean().backward()
    weight = tower_of(model).blocks[0].attn.qkv.weight
    assert weight.grad is not None and bool(weight.grad.isfinite().all()) and bool(weight.grad.any())


@pytest.mark.parametrize("frames", [0, -1, 1.0, True, "8"])
def test_windows_of_no_frames_are_refused(frames: Any) -> None:
    with pytest.raises(OptionError, match="tower_frames"):
        ff.reduce(build_model("llava"), SOME, tower_frames=frames)


@pytest.mark.parametrize("members", [(ff.FastV(layer=2), SOME), (SOME, ff.ToMe()), (SOME, SOME)], ids=str)
def test_it_comes_first_in_a_chain(members: tuple[ff.Method, ...]) -> None:
    with pytest.raises(OptionError, match="in front of it"):
        ff.Chain(*members)


@pytest.mark.parametrize(
    "options",
    [{"threshold": -0.1}, {"threshold": 11}, {"keep": 0.0}, {"refresh": -1}, {"mode": ""}, {"max_share": 0.0}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ff.PixelDedup(**options)


def test_a_copy_of_a_reduced_model_is_dense() -> None:
    model, inputs = build_model("qwen2_5_vl"), prompt("qwen2_5_vl", [SEGMENTS])
    with torch.no_grad():
        dense = model(**inputs).logits
        with ff.reduce(model, SOME, tower_frames=2):
            other = copy.deepcopy(model)
        assert torch.equal(other(**inputs).logits, dense)
    assert "forward" not in vars(tower_of(other))


def test_a_shared_tower_does_not_take_short_runs_for_whole_ones() -> None:
    model, inputs = build_model("qwen2_5_vl"), prompt("qwen2_5_vl", [SEGMENTS])
    with torch.no_grad():
        dense, alone = model(**inputs).logits, run(model, inputs, SOME)[0]
        saliency = run(model, inputs, ff.VisionZip(keep=0.5))[0]
        with shared_tower(model):
            assert torch.equal(run(model, inputs, SOME)[0], alone)
            assert torch.equal(model(**inputs).logits, dense)
            assert torch.equal(run(model, inputs, SOME)[0], alone)
            assert torch.equal(run(model, inputs, ff.VisionZip(keep=0.5))[0], saliency)
            assert torch.equal(run(model, inputs, ff.PixelDedup(keep=1.0))[0], dense)
            assert torch.equal(run(model, inputs, ff.VisionZip(keep=0.5))[0], saliency)


def test_beams_and_a_second_turn() -> None:
    model, inputs = build_model("qwen2_5_vl"), prompt("qwen2_5_vl", [SEGMENTS])
    options = {"max_new_tokens": 4, "do_sample": False}
    with torch.no_grad(), ff.reduce(model, ff.PixelDedup(threshold=0.6, mode="merge")) as reduction:
        one = model.generate(**inputs, **options)
        assert reduction.report.kept_tokens < reduction.report.visual_tokens
        beams = model.generate(**inputs, **options, num_beams=2)
    assert one.shape[0] == beams.shape[0] == 1


def test_the_report_tells_patches() -> None:
    model, inputs = build_model("qwen2_5_vl"), prompt("qwen2_5_vl", [SEGMENTS])
    _, report = run(model, inputs, SOME)
    assert f"patches         {report.patches_dense} -> {report.patches}" in str(report)
    assert report.to_dict()["patches"] == report.patches < report.to_dict()["patches_dense"] == 3 * 64
    _, other = run(model, inputs, ff.Uniform(keep=0.5))
    assert other.patches == other.patches_dense == 0 and "patches  " not in str(other)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_clip_that_changes_all_over_is_encoded_up_to_the_bound(share: float) -> None:
    """The first frame is whole, also of two."""
    for frames in (1, 2, 9):
        noise = torch.rand(frames, 16, 1, 3, 28, 28, generator=torch.Generator().manual_seed(frames))
        made = ff.PixelDedup(max_share=share, threshold=0.1).decide(noise, (4, 4))
        assert bool(made.encoded[0].all())
        behind = int(made.encoded[1:].sum())
        most = int(share * (frames - 1) * 16)
        assert behind <= most and (frames < 9 or behind > most * 0.7)
    assert ff.PixelDedup(max_share=share, threshold=0).decide(noise, (4, 4)).share == 1.0


@pytest.mark.parametrize(
    "method", [ff.PixelDedup(threshold=0.3), ff.Uniform(keep=0.5)], ids=lambda method: method.facts.name
)
def test_of_an_earlier_window_only_its_features_stay(method: ff.Method) -> None:
    """What the tower works on is gone when it goes on with the next window."""
    model, inputs = build_model("qwen2_5_vl"), prompt("qwen2_5_vl", [SEGMENTS])
    seen, alive = [], []

    def note(module: Any, args: tuple) -> None:
        alive.append(sum(reference() is not None for reference in seen))
        seen.append(weakref.ref(args[0]))

    handle = tower_of(model).merger.register_forward_pre_hook(note)
    with torch.no_grad(), reduce_clips(model, method, tower_frames=2):
        model(**inputs)
    handle.remove()
    assert alive == [0] * (len(CLIP) // 2)
