"""A method against controls: equal costs, paired numbers, and nothing that depends on luck."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import OptionError
from framefusion.core.plan import Plan
from framefusion.evaluation import Asking, Records, equal_cost, evaluate, fingerprint
from framefusion.evaluation.comparison import PROBE_SEED
from framefusion.evaluation.equal_cost import at_cost, cost_of, is_far
from tests.evaluation.ground import Ground, checkpoint

# Prompts must not depend on the choices: the answers of one run are the choices of the next.
ASKING = Asking(batch=4, new_tokens=4, name_choices=False)


@pytest.fixture(scope="module")
def model():
    return checkpoint()


@pytest.fixture(scope="module")
def prompts(model):
    return [ASKING.prompt(model, question) for question in Ground().samples(2, 9)]


@pytest.fixture(scope="module")
def right(model):
    """What the dense model says, by seed: with these as the right answers, its accuracy is 1."""
    records = Records(None)
    evaluate(model, ff.Random(), samples=12, controls=[], asking=ASKING, yardstick=Ground(), records=records)
    said = {name[1]: record.text for name, record in records._found.items() if record.cell.method == "dense"}
    return {seed: text for seed, text in said.items() if text}


@dataclass(frozen=True)
class Backwards(ff.Random):
    """A deliberately wrong merge: every token becomes the mean of all."""

    def decide(self, signals):
        return Plan.merge(torch.zeros(len(signals), dtype=torch.long), signals.size)


def run(model, method, costs=(0.5,), **options):
    options = {"samples": 12, "asking": ASKING, "records": Records(None), "yardstick": Ground(), **options}
    return evaluate(model, method, costs, **options)


def test_dense_answers_are_right_and_a_wrong_merge_is_seen(model, right):
    found = run(model, Backwards(), controls=[ff.FrameFusion(cost=1.0)], costs=None, yardstick=Ground(right))
    assert found.dense.accuracy.value == len(right) / 12 > 0.8
    assert found.reduced.score.accuracy.value < found.dense.accuracy.value
    losses = found.reduced.against_dense
    assert losses.losses - losses.wins == round(12 * -losses.difference.value) > 0


def test_the_identity_retains_everything(model, right):
    found = run(model, ff.FrameFusion(), costs=(1.0,), controls=[], yardstick=Ground(right))
    assert found.reduced.score.cost == found.reduced.score.kept_fraction == 1.0
    assert found.reduced.against_dense.share.value == 1.0
    assert found.reduced.against_dense.p_value == 1.0


def test_parts_fill_one_file_that_the_whole_asks_nothing_beyond(model, tmp_path):
    def kept(records, **options):
        found = run(model, ff.Random(), controls=[], records=records, **options)
        return found, {name: (record.text, record.correct) for name, record in Records(records)._found.items()}

    _, whole = kept(tmp_path / "whole")
    first, some = kept(tmp_path / "parts", part=(1, 2))
    assert len(some) == len(whole) / 2 and first.samples == 6
    _, every = kept(tmp_path / "parts", part=(2, 2))
    assert every == whole
    lines = (tmp_path / "parts").read_text()
    together, _ = kept(tmp_path / "parts")
    assert (tmp_path / "parts").read_text() == lines
    assert together.samples == 12


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1, 7)])
def test_a_part_that_is_none(model, part):
    with pytest.raises(OptionError, match="part"):
        run(model, ff.Random(), part=part)


def test_all_arms_cost_the_same(model):
    found = run(model, ff.FrameFusion(similarity_lower_bound=0.9), costs=(0.6, 0.4))
    assert [entry.role for entry in found.entries] == ["method"] * 2 + ["control"] * 6
    for entry in found.entries:
        assert entry.score.cost == pytest.approx(entry.target, abs=0.1), entry.label
    assert {(one.control, one.target) for one in found.comparisons} == {
        (name, cost) for name in ("random", "uniform", "frame_sample") for cost in (0.6, 0.4)
    }


def test_a_budget_is_found_for_a_method_that_reads_everything_at_first(model, prompts):
    """FastV before layer 2 of 4: at keep k it costs (2 + 2 k) / 4."""
    method, cost = at_cost(model.model, ff.FastV(layer=2), 0.75, prompts)
    assert method.keep == pytest.approx(0.5, abs=0.05) and cost == pytest.approx(0.75, abs=0.03)
    method, cost = at_cost(model.model, ff.Random(), 0.5, prompts)
    assert method.keep == 0.5 and cost == pytest.approx(0.5, abs=0.03)
    assert cost_of(model.model, method, prompts) == cost


@pytest.mark.parametrize("cost", [0.3, 0.05, 1 / 64, 1 / 200])
def test_a_small_cost_is_met_as_closely_as_a_large_one(cost, monkeypatch):
    monkeypatch.setattr(equal_cost, "cost_of", lambda model, method, prompts, processor: method.keep / 3)
    method, found = at_cost(None, ff.Random(), cost, [])
    assert found == method.keep / 3 == pytest.approx(cost, rel=0.04)
    assert not is_far(found, cost) and is_far(1.2 * cost, cost)


def test_a_cost_out_of_reach_is_said(model):
    found = run(model, ff.FastV(layer=2), costs=(0.2,), controls=[])
    assert any("fastv" in note and "0.2" in note for note in found.notes)
    assert found.reduced.score.cost > 0.45
    with pytest.raises(OptionError, match=r"\(0, 1\]"):
        run(model, ff.Random(), costs=(1.5,))


def test_controls_follow_a_method_as_configured(model):
    found = run(model, ff.FastV(keep=0.3, layer=2), costs=None, controls=[ff.Random()])
    method, control = found.entries
    assert method.options["keep"] == 0.3 and method.target is control.target is None
    assert control.score.cost == pytest.approx(method.score.cost, abs=0.05)


def test_methods_of_one_name_are_told_apart(model):
    found = run(model, ff.FastV(layer=2), costs=(0.9,), controls=[ff.FastV(layer=3)])
    assert [entry.label for entry in found.entries] == ["fastv", "fastv:layer=3"]
    assert len({entry.cell for entry in found.entries}) == 2


def test_the_threshold_is_calibrated_on_other_clips(model, prompts):
    found = run(model, ff.FrameFusion(), controls=[ff.Random()], calibrated=True)
    assert 0.0 < found.reduced.options["similarity_lower_bound"] < 1.0
    assert any("calibrated" in note for note in found.notes)
    fixed = run(model, ff.FrameFusion(similarity_lower_bound=0.7), controls=[], calibrated=True)
    assert fixed.reduced.options["similarity_lower_bound"] == 0.7


def test_the_document_has_what_it_must(model):
    document = run(model, ff.FrameFusion()).to_dict()
    assert {"dense", "reduced", "chance", "entries", "comparisons"} <= set(document)
    assert {"accuracy", "by_kind"} <= set(document["dense"])
    assert {"accuracy", "by_kind", "kept_fraction", "cost", "prefill_ms"} <= set(document["reduced"])
    assert set(document["reduced"]["by_kind"]) == {"colour", "needle"}
    assert document["chance"] == 0.5 and document["samples"] == 12


def test_wrong_kinds_and_too_few_samples(model):
    with pytest.raises(OptionError, match="colour, needle"):
        run(model, ff.Random(), kinds=["colours"])
    with pytest.raises(OptionError, match="at least 2"):
        run(model, ff.Random(), samples=1)
    with pytest.raises(OptionError, match="costs are matched"):
        run(model, ff.Random(), seed=PROBE_SEED)


def test_a_fingerprint_sees_weights_and_templates(model):
    before = fingerprint.of_checkpoint(model)
    assert fingerprint.of_checkpoint(checkpoint()) == before
    other = checkpoint()
    # Neither the place of a checkpoint nor the release that wrote it is what it is.
    other.model.config._name_or_path = other.model.config.text_config._name_or_path = "/elsewhere"
    assert fingerprint.of_checkpoint(other) == before
    with torch.no_grad():
        other.model.get_output_embeddings().weight[3, 4] += 1e-3
    assert fingerprint.of_checkpoint(other) != before
    plain = SimpleNamespace(chat_template="other", image_processor=None, video_processor=None)
    assert fingerprint.of_checkpoint(SimpleNamespace(model=model.model, processor=plain)) != before


def test_a_method_of_another_package_has_its_source_in_the_key():
    assert "method" in fingerprint.versions(Backwards())
    assert "method" not in fingerprint.versions(ff.Random())
