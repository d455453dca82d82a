"""Pictures, several of them, and clips beside them, in the prompts of every family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import framefusion as ff
from framefusion.core.errors import PromptError
from framefusion.inference.answer.answer import ask
from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.answer.prompt import build_prompt, takes_video
from framefusion.inference.media.still import still
from framefusion.inference.video import Clip
from tests.support.seeing import checkpoint
from tests.support.tiny import FAMILIES, moving_clip

RECOMMENDED = ff.TemporalWard(keep=0.4)


def picture(seed: int = 0, height: int = 112, width: int = 112) -> Clip:
    drawn = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return still(drawn, f"{seed}.png")


def clip(count: int = 8) -> Clip:
    frames = moving_clip(frames=count, height=112, width=112)
    return Clip(frames, tuple(np.arange(count) / 4), 4.0, count / 4, count, "clip.mp4", tuple(range(count)))


def lengths(found: Checkpoint, media: Any, method: ff.Method = RECOMMENDED) -> tuple[list[int], Any]:
    """Frames of each clip of the layout, and the answer."""
    answer = ask(found, build_prompt(found, media, "what?"), method, 2)
    geometry = answer.report.layout.rows[0][0]
    counts = [geometry.frame[geometry.clip == one].unique().numel() for one in geometry.clip.unique()]
    return counts, answer


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Checkpoint:
    return checkpoint(request.param)


def test_a_picture_has_one_moment_in_every_family(family: Checkpoint) -> None:
    for shown in (picture(), picture(height=90, width=150)):
        counts, answer = lengths(family, shown)
        assert set(counts) == {1}
        assert 0 < answer.kept_tokens < answer.visual_tokens == answer.report.visual_tokens


def test_pictures_of_one_size_are_no_frames_in_any_family(family: Checkpoint) -> None:
    counts, answer = lengths(family, [picture(1), picture(2), picture(3)])
    assert len(counts) >= 3 and set(counts) == {1}
    one = lengths(family, picture(1))[1]
    assert answer.visual_tokens == 3 * one.visual_tokens


@pytest.mark.parametrize(
    "method", [ff.FrameFusion(cost=0.4), ff.FastV(keep=0.4), ff.PyramidDrop(), ff.ToMe(), ff.IPCV(), ff.EVS()]
)
def test_methods_that_merge_along_time_answer_about_a_picture(method: ff.Method) -> None:
    for name in ("qwen2_5_vl", "internvl", "llava"):
        found = checkpoint(name)
        prompt = build_prompt(found, picture(), "what?")
        answer = ask(found, prompt, method.for_family(found.family), 2)
        assert 0 < answer.kept_tokens <= answer.visual_tokens


def test_keeping_everything_of_a_picture_changes_nothing(family: Checkpoint) -> None:
    prompt = build_prompt(family, [picture(1), picture(2)], "what?")
    with torch.no_grad():
        plain = family.model(**prompt).logits
        with ff.reduce(family.model, ff.TemporalWard(keep=1.0), processor=family.processor):
            assert torch.equal(family.model(**prompt).logits, plain)


def test_pictures_beside_a_clip(family: Checkpoint) -> None:
    together = [picture(1), clip(), picture(2)]
    if not takes_video(family):
        with pytest.raises(PromptError, match="only be asked about alone"):
            build_prompt(family, together, "what?")
        return
    if family.family.name == "smolvlm":
        with pytest.raises(PromptError, match="no pictures beside a clip"):
            build_prompt(family, together, "what?")
        return
    counts, _ = lengths(family, together)
    alone = lengths(family, clip())[0]
    assert counts == [1, *alone, 1]


def test_two_clips_stay_two(family: Checkpoint) -> None:
    if takes_video(family):
        assert lengths(family, [clip(), clip()])[0] == 2 * lengths(family, clip())[0]


def test_clips_of_unequal_lengths_where_a_processor_stacks_them() -> None:
    assert lengths(checkpoint("qwen2_5_vl"), [clip(), clip(4)])[0] == [4, 2]
    with pytest.raises(PromptError, match="clips of 8 and 4 frames in one prompt") as seen:
        build_prompt(checkpoint("internvl"), [clip(), clip(4)], "what?")
    assert "--frames 4" in seen.value.hint


def test_the_order_is_the_order_given() -> None:
    found = checkpoint("qwen2_5_vl")
    ids = [build_prompt(found, media, "what?")["input_ids"][0] for media in ([picture(), clip()], [clip(), picture()])]
    config = found.model.config
    for one, first in zip(ids, (config.image_token_id, config.video_token_id), strict=True):
        visual = one[(one == config.image_token_id) | (one == config.video_token_id)]
        assert visual[0] == first


def test_each_clip_has_its_own_spacing() -> None:
    slow = replace(clip(), timestamps=tuple(np.arange(8.0)), fps=1.0, duration=8.0)
    spacings = build_prompt(checkpoint("qwen2_5_vl"), [clip(), slow], "what?")["second_per_grid_ts"]
    assert spacings.tolist() == [0.5, 2.0]


def test_nothing_to_ask_about() -> None:
    with pytest.raises(PromptError, match="nothing to ask about"):
        build_prompt(checkpoint("qwen2_5_vl"), [], "what?")


def test_a_picture_that_a_processor_does_not_accept() -> None:
    with pytest.raises(PromptError, match="a picture of 1000 x 2 pixels") as seen:
        build_prompt(checkpoint("qwen2_5_vl"), [picture(), picture(height=2, width=1000)], "what?")
    assert "cut the picture" in seen.value.hint and "ffmpeg" not in seen.value.hint


def test_the_text_of_a_model_without_a_chat_template(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checkpoint("qwen2_5_vl")
    monkeypatch.setattr(found.processor, "chat_template", None)
    prompt = build_prompt(found, [picture(), clip(), picture()], "what?")
    assert len(prompt["image_grid_thw"]) == 2 and len(prompt["video_grid_thw"]) == 1
