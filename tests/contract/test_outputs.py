"""What a reduced forward returns besides logits: hidden states, chosen logits, the loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

import framefusion as ff
from framefusion.inference.reduction import reduce_clips
from tests.support.cases import (
    METHODS,
    assert_near,
    both_methods,
    every_family,
    inputs_of,
    model_of,
    oracle_of,
    real_columns,
    reduced,
)
from tests.support.oracle import acts_of
from tests.support.tiny import build_model

IGNORED = -100
ANSWER = 6


@every_family
@both_methods
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("graph", [False, True], ids=["no-grad", "grad"])
def test_hidden_states_are_expanded_at_every_layer(family, method, when, graph):
    """transformers installs its capture hooks on the first request, so they may lie before or behind ours."""
    model, rows = build_model(family), ("full", "short")
    inputs = inputs_of(family, *rows)
    if when == "before":
        model(**inputs, output_hidden_states=True)
    with torch.set_grad_enabled(graph), reduce_clips(model, method) as reduction:
        states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == len(model.get_decoder().layers) + 1
    for number, name in enumerate(rows):
        columns = real_columns(inputs, number)
        acts = acts_of(reduction.report.decisions, number, int(columns[0]))
        answer = oracle_of(family, name).run(acts)
        for state, expected in zip(states, answer.states, strict=True):
            assert state.shape[:2] == inputs["input_ids"].shape
            assert_near(state[number, columns].detach(), expected)
        assert_near(states[-1][number, columns][answer.columns].detach(), answer.hidden)


@every_family
@both_methods
@pytest.mark.parametrize("chosen", [3, torch.tensor([5, 20])], ids=["last", "places"])
def test_logits_to_keep(family, method, chosen):
    """The first place asks, as the column in front of the first target does."""
    model, inputs = model_of(family), inputs_of(family, "full", "short")
    places = slice(-chosen, None) if isinstance(chosen, int) else chosen
    labels = inputs["input_ids"].clone()
    labels[:, : int(torch.arange(labels.shape[1])[places].min()) + 1] = IGNORED
    whole, _ = reduced(model, method, inputs, labels=labels)
    some, _ = reduced(model, method, inputs, logits_to_keep=chosen)
    with torch.no_grad():
        stock = model(**inputs, logits_to_keep=chosen).logits
    # A family that takes no such option returns everything.
    expected = whole.logits if stock.shape == whole.logits.shape else whole.logits[:, places]
    assert_near(some.logits, expected, 1e-6)


def supervised(family, *rows, answer=range(65, 65 + ANSWER), whole=False):
    """A batch whose last tokens are the answer. whole: every real column has a label, not the answer alone."""
    inputs = inputs_of(family, *rows)
    tail = torch.tensor(list(answer)).expand(len(rows), -1)
    for name, fill in (("attention_mask", 1), ("mm_token_type_ids", 0), ("token_type_ids", 0)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.full_like(tail, fill).to(inputs[name].dtype)], 1)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    labels[:, -len(answer) :] = tail
    if whole:
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
    inputs["labels"] = labels
    return inputs


def loss_by_hand(logits, labels, report):
    """Mean over the targets whose own position was not removed."""
    kept = labels.clone()
    for number, (_, placement) in enumerate(report.layout.rows):
        removed = set(placement.columns.tolist()) - set(report.surviving_columns[number])
        kept[number, sorted(removed)] = IGNORED
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), kept[:, 1:].flatten(), ignore_index=IGNORED)


@every_family
@both_methods
@pytest.mark.parametrize("whole", [False, True], ids=["answer", "whole"])
def test_loss_ignores_removed_positions(family, method, whole):
    inputs = supervised(family, "full", "short", whole=whole)
    labels = inputs["labels"].clone()
    output, report = reduced(model_of(family), method, inputs)
    assert torch.equal(inputs["labels"], labels), "the caller's labels were changed"
    assert any(len(p.columns) > kept for (_, p), kept in zip(report.layout.rows, report.last.kept_tokens, strict=True))
    assert_near(output.loss, loss_by_hand(output.logits, labels, report), 1e-5)


@every_family
@both_methods
def test_labels_of_removed_positions_do_not_count(family, method):
    """Whatever the label of a removed position says, the loss is the same; that of a surviving one matters."""
    inputs = supervised(family, "full", whole=True)
    output, report = reduced(model_of(family), method, inputs)
    living, visual = report.surviving_columns[0], report.layout.rows[0][1].columns.tolist()
    removed = sorted(set(visual) - set(living))
    for columns, same in ((removed, True), (living[-2:], False)):
        other = dict(inputs, labels=inputs["labels"].clone())
        other["labels"][0, columns] = 7
        loss = reduced(model_of(family), method, other)[0].loss
        assert torch.equal(loss, output.loss) == same


@every_family
def test_the_choice_never_sees_the_answer(family):
    """Other answer tokens keep the same visual tokens; without labels the last token decides, so they would differ."""
    model, method = model_of(family), ff.FrameFusion(cost=0.3, similarity_lower_bound=1.0)
    kept, unaware = set(), set()
    for shift in range(4):
        inputs = supervised(family, "full", answer=[(65 + 37 * shift + step) % 256 for step in range(ANSWER)])
        _, report = reduced(model, method, inputs)
        kept.add(tuple(report.surviving_columns[0]))
        del inputs["labels"]
        _, report = reduced(model, method, inputs)
        unaware.add(tuple(report.surviving_columns[0]))
    assert len(kept) == 1
    # Gemma's first layer looks back over a window that ends before the pictures: nothing there depends on the query.
    assert len(unaware) > 1 or family == "gemma3"


@every_family
def test_labels_and_generation_keep_the_same_tokens(family):
    """Teacher forcing reads the prompt as generation does."""
    model, method = model_of(family), METHODS["framefusion"]
    _, trained = reduced(model, method, supervised(family, "full"))
    _, plain = reduced(model, method, inputs_of(family, "full"))
    prompt = len(plain.surviving_columns[0])
    assert trained.surviving_columns[0][:prompt] == plain.surviving_columns[0]


@every_family
def test_logits_with_a_graph_are_the_same(family):
    """With autograd the MLP of a cutting layer still reads the tokens that go; what stays does not notice."""
    model, inputs = model_of(family), inputs_of(family, "full")
    quiet, _ = reduced(model, METHODS["framefusion"], inputs)
    with reduce_clips(model, METHODS["framefusion"]):
        traced = model(**inputs)
    assert traced.logits.requires_grad
    assert_near(traced.logits.detach(), quiet.logits)
