"""Everything is kept, and the question picks what is read."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from framefusion.inference.stream.policies.retrieve import Retrieve
from tests.inference.stream.support import (
    FEW,
    QUESTION,
    assert_same,
    stream,
    tensors,
    watched,
)
from tests.inference.stream.test_policies import entries

few = pytest.mark.parametrize("name", FEW)


def plainly(given, query, budget, latest=0.25):
    """The entries in front, the latest, and whole steps by their likeness to the question as long as they fit."""
    room = budget - given.protected
    newest = list(range(given.count - int(latest * room), given.count))
    steps = {}
    for number in range(given.protected, newest[0]):
        steps.setdefault(int(given.frame[0, number]), []).append(number)
    likeness = {
        step: sum(float(cosine_similarity(given.keys[head, own].mean(0), query[head], dim=0)) for head in range(2))
        for step, own in steps.items()
    }
    left, chosen = room - len(newest), []
    for step in sorted(likeness, key=lambda step: -likeness[step]):
        left -= len(steps[step])
        if left < 0:
            break
        chosen += steps[step]
    return [*range(given.protected), *sorted(chosen), *newest]


@pytest.mark.parametrize("budget", [12, 23, 31])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_question_picks_the_steps_like_it(budget, seed):
    given = entries(words=1, seed=seed)
    query = torch.randn(2, given.keys.shape[-1], generator=torch.Generator().manual_seed(seed + 7))
    found = Retrieve().select(given, query, budget).index
    assert found[0].tolist() == plainly(given, query, budget)


@few
def test_with_room_for_everything_it_reads_everything(name):
    with watched(name, policy="retrieve") as video, watched(name) as whole:
        assert_same(tensors(video), tensors(whole))
        assert video.ask(QUESTION, max_new_tokens=6) == whole.ask(QUESTION, max_new_tokens=6)


@few
def test_it_reads_a_part_and_keeps_the_whole(name):
    memory = {"internvl": 150, "smolvlm": 150}.get(name, 70)
    with watched(name, policy="retrieve", memory=memory) as video, watched(name) as whole:
        before = tensors(video)
        answer = video.ask(QUESTION, max_new_tokens=6)
        assert answer.tokens_read <= memory < video.status.tokens_kept == whole.status.tokens_kept
        assert answer == video.ask(QUESTION, max_new_tokens=6)
        assert_same(tensors(video), before)


def test_a_tape_of_everything(tmp_path):
    with watched("qwen2_5_vl", policy="retrieve", memory=70) as video:
        video.save(tmp_path / "tape")
        with stream("qwen2_5_vl", policy="retrieve", memory=70, resume=tmp_path / "tape") as other:
            assert_same(tensors(other), tensors(video))
            assert other.ask(QUESTION, max_new_tokens=4) == video.ask(QUESTION, max_new_tokens=4)
