"""What a long stream holds and does, counted: nothing of it grows with what was seen."""

from __future__ import annotations

from contextlib import contextmanager
from math import log

import pytest

from framefusion.engine.model.cache_names import cache_in
from framefusion.engine.model.parts import find_parts
from framefusion.inference.stream.policies import POLICIES
from tests.behaviour.support import model
from tests.inference.stream.support import clip, stream

READING = sorted(set(POLICIES) - {"none"})
"""Policies by which a window is read with a bounded memory."""
BOUNDED = [name for name in READING if not POLICIES[name].retrieves]
FILLING, EARLY, ALL = 4, 20, 44
"""Windows until the memory is full, before the first look at it, and in all."""


@contextmanager
def attended(name):
    """Of every call of the decoder, how many pairs of a query and an entry a layer meets at most."""
    pairs = []

    def hook(module, args, kwargs):
        columns = (
            kwargs["inputs_embeds"].shape[1]
            if kwargs.get("inputs_embeds") is not None
            else kwargs["input_ids"].shape[1]
        )
        pairs.append(columns * (columns + int(cache_in(kwargs).get_seq_length())))

    handle = find_parts(model(name)).decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield pairs
    finally:
        handle.remove()


def long_stream(name, policy, windows):
    """Windows of one time step each, and after each of them the bytes held and the pairs attended to so far."""
    sizes, work = [], []
    with attended(name) as pairs, stream(name, policy=policy, memory=40, window=2) as video:
        for window in range(windows):
            video.feed(clip(2, window % 3), [0.5 * window, 0.5 * window + 0.25])
            sizes.append(video.status.cache_bytes)
            work.append(sum(pairs))
            pairs.clear()
    return sizes, work


@pytest.mark.slow
@pytest.mark.parametrize("policy", READING)
def test_memory_is_flat_and_work_is_linear(policy):
    sizes, work = long_stream("qwen2_5_vl", policy, ALL)
    if policy in BOUNDED:
        assert max(sizes[EARLY:]) <= 1.05 * sizes[EARLY - 1]
    assert work[-1] <= 1.1 * work[EARLY - 1]
    full = work[FILLING:]
    exponent = log(sum(full) / sum(full[: len(full) // 8])) / log(8)
    assert 0.9 < exponent <= 1.05


def test_without_forgetting_neither_is_bounded():
    """What the test above measures does tell."""
    sizes, work = long_stream("qwen2_5_vl", "none", 2 * EARLY)
    assert sizes[-1] > 1.5 * sizes[EARLY - 1] and work[-1] > 1.5 * work[EARLY - 1]
