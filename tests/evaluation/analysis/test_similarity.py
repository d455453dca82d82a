"""Similarity by depth, against what really enters each layer, token by token."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.evaluation.analysis.similarity import THRESHOLDS, analysis_of, analyze
from tests.behaviour.support import answer, few_families, inputs, model
from tests.reference.rank import spearman


def cosine(one, two):
    return float(torch.cosine_similarity(one, two, dim=0))


def by_hand(net, prompt):
    """Per row and layer, the cosines of all neighbours in time."""
    with ff.reduce(net, ff.FrameFusion(cost=1.0), pictures_are_frames=True) as reduction:
        net(**prompt)
        rows = reduction.report.layout.rows
    hidden, layers = [], net.get_decoder().layers
    hooks = [layer.register_forward_pre_hook(lambda _, args: hidden.append(args[0])) for layer in layers]
    net(**prompt)
    for hook in hooks:
        hook.remove()
    seen = []
    for number, (geometry, placement) in enumerate(rows):
        places = {}
        for token, column in enumerate(placement.columns.tolist()):
            places.setdefault((int(geometry.clip[token]), int(geometry.patch[token])), []).append(column)
        pairs = [pair for columns in places.values() for pair in pairwise(columns)]
        seen.append([[cosine(*state[number, list(pair)].float()) for pair in pairs] for state in hidden])
    return seen


@few_families
@torch.no_grad()
def test_analysis_is_what_a_count_by_hand_finds(name):
    net, prompt = model(name), inputs(name)
    rows = by_hand(net, prompt)
    dense = answer(net, prompt).tolist()
    found = analyze(net, [prompt])
    assert answer(net, prompt).tolist() == dense
    layers = len(rows[0])
    assert found.layers == layers and found.videos == len(rows)
    assert found.tokens == sum(len(row[0]) for row in rows)
    for layer in range(layers):
        cosines = np.array([value for row in rows for value in row[layer]])
        assert found.median[layer] == pytest.approx(float(np.median(cosines)), abs=1e-3)
        near = [min(abs(cosine - threshold) for cosine in cosines) < 1e-5 for threshold in THRESHOLDS]
        shares = [np.mean([cosine >= threshold for cosine in cosines]) for threshold in THRESHOLDS]
        assert all(
            close or a == pytest.approx(b) for close, a, b in zip(near, found.shares[layer], shares, strict=True)
        )
        assert found.histogram[layer].sum() == pytest.approx(1.0)
    last = [spearman(row[0], row[-1]) for row in rows]
    assert found.rank_correlation[0, -1] == pytest.approx(np.mean(last), abs=0.02)
    assert found.recommended == ff.calibrate(net, [prompt])


def test_every_video_counts_the_same_in_the_threshold():
    found = analysis_of([torch.full((2, 1), 0.2), torch.tensor([[0.7] * 9, [0.1] * 9])])
    assert found.recommended == pytest.approx(0.45) and found.medians == pytest.approx((0.2, 0.7))


def test_the_document_is_plain_json_also_where_nothing_varies():
    document = analysis_of([torch.full((2, 3), 0.5)]).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["rank_correlation"] == [[None, None], [None, None]]
    assert document["similarity"][1]["share_at_least"]["0.5"] == 1.0


def test_a_prompt_without_video_is_an_error():
    with pytest.raises(OptionError, match="hint"):
        analyze(model("qwen2_5_vl"), [inputs("qwen2_5_vl", "text")])
