"""PruMerge and PruMerge+ against the slow transcription, at the edges, and through whole models."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError, OptionError
from framefusion.core.layout import Geometry
from framefusion.core.method import VisionSignals, before
from framefusion.core.registry import method as registered
from framefusion.methods.prumerge import PruMerge, PruMergePlus
from framefusion.testing.signals import make_signals, run_stage
from tests.reference import prumerge as reference
from tests.support.tiny import build_model, moving_clip, prompt

WIDTH = 5
NEW_TOKENS = 4
CLASSES = (PruMerge, PruMergePlus)


def picture(total, seed=0, outliers=3, keys=7):
    """Features (N, D), salience (N,) of which some stand out, keys (N, C)."""
    draw = torch.Generator().manual_seed(seed)
    score = torch.rand(total, generator=draw) * 0.2 + 0.5
    score[torch.randperm(total, generator=draw)[:outliers]] += 1 + torch.rand(outliers, generator=draw)
    score = score / (1.3 * score.sum())
    return torch.randn(total, WIDTH, generator=draw), score, torch.randn(total, keys, generator=draw)


def signals_of(features, score, keys, geometry=None):
    vision = VisionSignals("cls", lambda layer, headless: score, lambda layer: keys, lambda: features)
    geometry = Geometry.grid(1, 1, len(features)) if geometry is None else geometry
    return make_signals(geometry, features, before(0), vision=vision)


def as_reference(plan, features, score, chosen):
    """The plan's values in the published order: the chosen tokens, then the gathering one if there is one."""
    gatherer = [token for token in plan.keep.tolist() if token not in chosen]
    assert len(gatherer) <= 1
    if gatherer:
        pruned = [token for token in range(plan.count) if token not in chosen]
        assert gatherer[0] == max(pruned, key=lambda token: (score[token], -token))
    rows = plan.apply(features)[plan.owner[torch.tensor(chosen + gatherer)]]
    return rows[: len(chosen)], rows[len(chosen) :]


def check(method, slow, features, score, keys):
    plan = run_stage(method, signals_of(features, score, keys))
    assert plan.keep.tolist() == sorted(plan.keep.tolist())
    chosen, values, gathered = slow(features.tolist(), score.tolist(), keys.tolist())
    assert method.select(score).tolist() == chosen
    found, last = as_reference(plan, features, score.tolist(), chosen)
    torch.testing.assert_close(found, torch.tensor(values).view(-1, WIDTH), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(last, torch.tensor([] if gathered is None else [gathered]).view(-1, WIDTH))
    assert (plan.owner >= 0).all() and plan.sizes(torch.ones(len(features))).sum() == len(features)
    return plan


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("total", "outliers"), [(49, 3), (64, 1), (36, 8), (23, 2)])
def test_the_published_arithmetic(cls, seed, total, outliers):
    plus = cls is PruMergePlus
    features, score, keys = picture(total, seed, outliers)
    check(cls(strict=True, neighbours=8), lambda f, s, k: reference.published(f, s, k, plus, 8), features, score, keys)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("keep", [None, 0.3, 0.11, 1, 2, 3, 5, 12])
@pytest.mark.parametrize("total", [49, 30])
def test_the_sane_form(cls, keep, total):
    plus = cls is PruMergePlus
    features, score, keys = picture(total, seed=total)
    count = round(keep * total) if isinstance(keep, float) else keep
    plan = check(
        cls(keep=keep, neighbours=6),
        lambda f, s, k: reference.sane(f, s, k, count, plus, 6),
        features,
        score,
        keys,
    )
    assert plan.kept == (count or (14 if plus else 4) - (1 if plus else 0))


def test_what_stands_out_is_counted_picture_by_picture():
    one, two = picture(49, seed=1, outliers=2), picture(49, seed=2, outliers=6)
    joined = [torch.cat(parts) for parts in zip(one, two, strict=True)]
    plan = run_stage(PruMerge(), signals_of(*joined, geometry=Geometry.grid(2, 7, 7)))
    alone = [run_stage(PruMerge(), signals_of(*part)) for part in (one, two)]
    assert plan.keep.tolist() == [*alone[0].keep.tolist(), *(alone[1].keep + 49).tolist()]
    assert [part.kept for part in alone] == [3, 7]
    values = torch.cat([plan.apply(part[0]) for plan, part in zip(alone, (one, two), strict=True)])
    torch.testing.assert_close(plan.apply(joined[0]), values)


@pytest.mark.parametrize(("outliers", "stride"), [(3, 4), (4, 3), (5, 2), (6, 2), (7, 1), (8, 1)])
def test_the_staircase_of_the_published_stride(outliers, stride):
    """A ratio in (1/12, 1/9] samples every third token, in (1/9, 1/6] every second, above that all but the last."""
    score = torch.linspace(0.5, 0.6, 36)
    score[1 : 1 + outliers] += 1.0
    chosen = PruMergePlus(strict=True).select(score).tolist()
    assert chosen == reference.published_choice(score.tolist(), True)
    standing = list(range(outliers, 0, -1))
    assert chosen == standing + [sample for sample in range(0, 35, stride) if sample not in standing]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("strict", [False, True])
def test_a_flat_map_keeps_one_token_that_stands_out(cls, strict):
    """Nothing is an outlier; the published code divides by zero."""
    features, _, keys = picture(36)
    plan = run_stage(cls(strict=strict), signals_of(features, torch.full((36,), 1 / 36), keys))
    samples = {PruMerge: 0, PruMergePlus: 2 if strict else 3}[cls]
    assert plan.kept == 1 + samples + 1 and plan.keep[0] == 0


def test_the_sane_form_does_not_collapse_at_high_ratios():
    _, score, _ = picture(64, outliers=15)
    assert PruMergePlus(strict=True).select(score).numel() >= 63
    assert PruMergePlus(keep=0.5).select(score).numel() == 31


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("total", [1, 2, 3, 5, 6, 49])
@pytest.mark.parametrize("keep", [0.01, 0.2, 0.5, 0.9, 1, 3, 1000])
def test_the_declared_count_is_met(cls, total, keep):
    features, score, keys = picture(total, outliers=min(total, 2))
    plan = run_stage(cls(keep=keep), signals_of(features, score, keys))
    wanted = keep if isinstance(keep, int) else round(keep * total)
    assert plan.kept == max(1, min(total, wanted))
    assert torch.isfinite(plan.apply(features)).all()


@pytest.mark.parametrize("cls", CLASSES)
def test_keeping_everything_is_the_identity(cls):
    features, score, keys = picture(49)
    for keep in (1.0, 49, 50):
        plan = run_stage(cls(keep=keep), signals_of(features, score, keys))
        assert torch.equal(plan.apply(features), features) and not plan.merges


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("strict", [False, True])
def test_tiny_pictures_at_the_adaptive_count(cls, total, strict):
    features, score, keys = picture(total, outliers=1)
    plan = run_stage(cls(strict=strict), signals_of(features, score, keys))
    assert 1 <= plan.kept <= total and torch.isfinite(plan.apply(features)).all()


@pytest.mark.parametrize("cls", CLASSES)
def test_merged_values_are_means(cls):
    """Equal tokens stay what they are, however many merge."""
    features, score, keys = picture(49)
    features = features[:1].expand(49, -1)
    out = run_stage(cls(keep=9), signals_of(features, score, keys)).apply(features)
    torch.testing.assert_close(out, features[:9].contiguous())


@pytest.mark.parametrize("cls", CLASSES)
def test_zero_keys_duplicates_and_scores_that_underflow(cls):
    features, score, keys = picture(36)
    keys[::3], keys[1::3] = 0.0, keys[1]
    plan = run_stage(cls(keep=8), signals_of(features, score, keys))
    assert plan.kept == 8 and torch.isfinite(plan.apply(features)).all()
    peaked = torch.zeros(36)
    peaked[5] = 1.0
    plan = run_stage(cls(keep=2), signals_of(features, peaked, keys))
    gathered = plan.apply(features)[1 if plan.keep[0] == 5 else 0]
    others = torch.arange(36) != 5
    torch.testing.assert_close(gathered, features[others].mean(0))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_selection(cls, dtype):
    features, score, keys = picture(49)
    full = run_stage(cls(keep=0.3), signals_of(features, score, keys))
    half = run_stage(cls(keep=0.3), signals_of(features.to(dtype), score, keys.to(dtype)))
    assert torch.equal(full.keep, half.keep)
    out = half.apply(features.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), full.apply(features), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("cls", CLASSES)
def test_inputs_stay_and_the_choice_is_deterministic(cls):
    given = picture(49)
    copies = [part.clone() for part in given]
    plans = [run_stage(cls(keep=9), signals_of(*given)) for _ in range(2)]
    assert torch.equal(plans[0].keep, plans[1].keep) and torch.equal(plans[0].weight, plans[1].weight)
    assert all(torch.equal(part, copy) for part, copy in zip(given, copies, strict=True))


@pytest.mark.parametrize(
    "options",
    [{"keep": 0.0}, {"keep": 1.5}, {"keep": 0}, {"keep": True}, {"neighbours": 0}, {"strict": True, "keep": 0.3}],
)
@pytest.mark.parametrize("cls", CLASSES)
def test_bad_options(cls, options):
    with pytest.raises(OptionError):
        cls(**options)


def answer(model, inputs, method):
    with ff.reduce(model, method) as reduction, torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
    return out[:, inputs["input_ids"].shape[1] :].tolist(), reduction.report


SHOWS = {"llava": "image", "llava_onevision": "video", "qwen2_5_vl": "video", "qwen3_vl": "video", "internvl": "video"}


def rows_of(family):
    clips = [moving_clip(4, seed=1), moving_clip(4, seed=2)]
    kind = SHOWS[family]
    shown = [clip if kind == "video" else clip[0] for clip in clips]
    return [
        [(kind, shown[0]), ("text", "what happens in this long and winding question?")],
        [(kind, shown[1]), ("text", "who?")],
    ]


@pytest.mark.parametrize("name", ["prumerge", "prumerge_plus"])
@pytest.mark.parametrize("family", SHOWS)
def test_through_a_whole_model(family, name):
    model, rows = build_model(family), rows_of(family)
    method = registered(name)(keep=4)
    both, report = answer(model, prompt(family, rows), method)
    pictures = report.layout.rows[0][0].frame.unique().numel() if family != "llava" else 1
    newlines = int((report.layout.rows[0][0].kind != 0).sum())
    assert report.last.kept_tokens == [4 * pictures + newlines] * 2
    assert all(layer.visual_in == sum(report.last.kept_tokens) for layer in report.layers)
    alone = [answer(model, prompt(family, [row]), method)[0][0] for row in rows]
    assert both == alone


@pytest.mark.parametrize("family", SHOWS)
def test_the_identity_changes_no_bit_of_a_model(family):
    model, inputs = build_model(family), prompt(family, rows_of(family)[:1])
    with torch.no_grad():
        dense = model(**inputs).logits
        with ff.reduce(model, PruMergePlus(keep=1.0)):
            assert torch.equal(model(**inputs).logits, dense)


def test_a_model_without_the_signals_is_refused_by_name():
    model = build_model("video_llama_3")
    inputs = prompt("video_llama_3", [[("video", moving_clip(4)), ("text", "what?")]])
    with pytest.raises(MissingSignalError), ff.reduce(model, PruMerge(keep=0.5)):
        model.generate(**inputs, max_new_tokens=2)
