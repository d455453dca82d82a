"""A window is read with the latest of what is kept, and questions with all of it."""

from __future__ import annotations

import pytest

from framefusion.inference.stream.packed import plain
from tests.inference.stream.support import FAMILIES, QUESTION, assert_same, watched

LATEST = 40


def latest(video):
    """Keys, values and facts of the last entries of every layer."""
    layers = video._watched.state.memory.layers.items()
    return {f"{number}.{name}": plain(getattr(layer, name))[:, -LATEST:] for number, layer in layers for name in PARTS}


PARTS = ("keys", "values", "about")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("policy", ["none", "retrieve"])
def test_a_window_is_read_as_if_only_the_latest_had_been_kept(name, policy):
    with watched(name, policy=policy, context=LATEST) as video:
        memory = LATEST + video._watched.state.memory.protected
        with watched(name, policy="window", memory=memory) as forgetting, watched(name, policy=policy) as whole:
            assert video.status.tokens_kept == whole.status.tokens_kept > forgetting.status.tokens_kept == memory
            assert_same(latest(video), latest(forgetting), atol=1e-5)
            with pytest.raises(AssertionError):
                assert_same(latest(video), latest(whole), atol=1e-5)


@pytest.mark.parametrize("policy", ["none", "uniform", "infinipot", "retrieve"])
def test_a_question_reads_everything(policy):
    with watched("qwen2_5_vl", policy=policy, context=8, memory=60) as video:
        read = video.ask(QUESTION, max_new_tokens=2).tokens_read
        assert 60 >= read > 50 if policy == "retrieve" else read == video.status.tokens_kept > 50  # whole steps
