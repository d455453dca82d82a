"""The example task: the needle is where the row says, and only the right letter scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from framefusion.inference.video import load_clip
from tests.integrations.needle import FRAMES, build_task, load


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    task = build_task(tmp_path_factory.mktemp("needle"))
    return [json.loads(line) for line in (task / "needle.jsonl").read_text().splitlines()]


def test_every_clip_holds_its_needle_in_the_named_colour(rows: list[dict]):
    colours = load("build").COLOURS
    assert len(rows) == 4
    for row in rows:
        frames = load_clip(row["video"], frames=None).frames.astype(int)
        assert len(frames) == FRAMES
        middle = frames[round(row["depth"] * (FRAMES - 1)), 40:72, 40:72].reshape(-1, 3).mean(axis=0)
        right = row["choices"]["ABCDEF".index(row["answer"])]
        nearest = min(colours, key=lambda name: float(np.abs(middle - np.array(colours[name])).sum()))
        assert nearest == right


def test_only_the_right_letter_scores(rows: list[dict]):
    needle = load("needle")
    doc = rows[0]
    wrong = "ABCDEF"[("ABCDEF".index(doc["answer"]) + 1) % 6]
    for answer, expected in (
        (doc["answer"], 1.0),
        (f"({doc['answer']}) it is", 1.0),
        (wrong, 0.0),
        (f"{wrong}, not {doc['answer']}", 0.0),
        ("", 0.0),
    ):
        assert needle.score(doc, [answer]) == {"needle_accuracy": expected}


def test_the_question_lists_the_choices(rows: list[dict]):
    text = load("needle").question(rows[0])
    assert all(f"{letter}. {choice}" in text for letter, choice in zip("ABCDEF", rows[0]["choices"], strict=True))


def test_the_task_file_names_its_data(tmp_path: Path):
    task = build_task(tmp_path, videos=1, each=1)
    text = (task / "needle.yaml").read_text().replace("!function ", "")
    assert Path(yaml.safe_load(text)["dataset_kwargs"]["data_files"]["test"]) == (task / "needle.jsonl").resolve()
