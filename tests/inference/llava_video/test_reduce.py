"""What is LLaVA-Video's own when it is reduced: newlines in rows, the published threshold, the times of frames."""

from __future__ import annotations

import json

import pytest
import torch

import framefusion as ff
from framefusion.cli.app import run_app
from framefusion.core.errors import LayoutError
from framefusion.core.layout import NEWLINE
from framefusion.core.registry import family_of
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.video import load_clip, write_clip
from tests.support import original_llava_video as tiny
from tests.support.cases import inputs_of, model_of
from tests.support.tiny import moving_clip

FRAMES, SIDE = 4, 4


@torch.no_grad()
def test_a_newline_ends_every_row_of_every_frame():
    model, inputs = model_of("llava_qwen"), inputs_of("llava_qwen", "full")
    with ff.reduce(model, ff.FrameFusion(cost=1.0)) as reduction:
        model(**inputs)
    ((geometry, _),) = reduction.report.layout.rows
    newline = geometry.kind == NEWLINE
    assert newline.view(FRAMES * SIDE, SIDE + 1).long().sum(0).tolist() == [0] * SIDE + [FRAMES * SIDE]
    assert geometry.row[newline].tolist() == list(range(SIDE)) * FRAMES
    assert geometry.frame[newline].tolist() == [frame for frame in range(FRAMES) for _ in range(SIDE)]
    assert geometry.patch.view(FRAMES, -1).tolist() == [list(range(SIDE * (SIDE + 1)))] * FRAMES


def test_newlines_merge_with_the_newline_of_their_row_in_the_frame_before():
    model, inputs = model_of("llava_qwen"), inputs_of("llava_qwen", "full")
    with ff.reduce(model, ff.FrameFusion(cost=0.5, similarity_lower_bound=0.9)) as reduction, torch.no_grad():
        model(**inputs)
    geometry, first = reduction.report.layout.rows[0][0], reduction.report.decisions[0].plan
    later = ((geometry.kind == NEWLINE) & (geometry.frame > 0)).nonzero().flatten()
    owner = first.owner[later]
    assert (owner >= 0).all() and set(geometry.frame[owner].tolist()) == {0}
    assert geometry.row[owner].tolist() == geometry.row[later].tolist()
    assert set(geometry.kind[owner].tolist()) == {NEWLINE}


def test_a_video_that_was_cut_is_no_video():
    inputs = inputs_of("llava_qwen", "full")
    ids = inputs["input_ids"].clone()
    model = model_of("llava_qwen")
    ids[0, (ids[0] == model.config.video_token_id).nonzero()[0]] = 65
    with pytest.raises(LayoutError, match="20 tokens"):
        family_of("llava_qwen").layout(model.config, inputs, ids)


def test_the_published_threshold_applies():
    with ff.reduce(model_of("llava_qwen"), ff.FrameFusion(cost=0.3)) as reduction:
        assert reduction.method.similarity_lower_bound == 0.6


def test_the_command_answers_from_the_original_format(tmp_path, capsys):
    tiny.save(tmp_path / "model")
    video = tmp_path / "clip.mp4"
    write_clip(video, moving_clip(8, 56, 56), fps=4.0)
    options = ["--frames", "4", "--max-new-tokens", "3", "--compare", "--json", "--method", "framefusion"]
    assert run_app(["run", str(video), "What is happening?", "--model", str(tmp_path / "model"), *options]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["family"] == "llava_qwen" and shown["method"]["similarity_lower_bound"] == 0.6
    assert shown["dense"]["visual_tokens"] == 4 * 3 * 4 > shown["reduced"]["kept_tokens"]


def test_the_question_follows_the_times_of_the_frames(tmp_path):
    from framefusion.inference.answer.prompt import build_prompt

    tiny.save(tmp_path / "model")
    video = tmp_path / "clip.mp4"
    write_clip(video, moving_clip(8, 56, 56), fps=4.0)
    checkpoint = load_checkpoint(str(tmp_path / "model"))
    inputs = build_prompt(checkpoint, load_clip(video, frames=2), "Why?")
    text = checkpoint.processor.tokenizer.decode(inputs["input_ids"][0])
    assert "The video lasts for 2.00 seconds, and 2 frames are uniformly sampled from it." in text
    assert text.index("located at 0.00s,1.75s.") < text.index("Why?")
