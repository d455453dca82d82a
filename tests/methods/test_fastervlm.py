"""FasterVLM and VisPruner against their references."""

from __future__ import annotations

import pytest
import torch

from framefusion.core.errors import OptionError
from framefusion.core.layout import frame_groups
from framefusion.methods.fastervlm import FasterVLM
from framefusion.methods.vispruner import VisPruner
from tests.reference.fastervlm import fastervlm
from tests.reference.vispruner import vispruner
from tests.support import looking
from tests.support.looking import CONTENTS, FAMILIES, LAYOUTS, kept_by, row, wanted


def reference(method, signals):
    kept = []
    for group in frame_groups(signals.geometry):
        count = wanted(method.keep, len(group))
        saliency = signals.vision().saliency(method.tower_layer, False)[group]
        if isinstance(method, FasterVLM):
            tokens = fastervlm(saliency, count)
        else:
            tokens = vispruner(saliency, signals.vision().features()[group], count, method.important)
        kept += group[tokens].tolist()
    return kept


METHODS = [
    FasterVLM(0.3),
    FasterVLM(7, tower_layer=-1),
    VisPruner(0.3),
    VisPruner(0.1, 0.0, tower_layer=-1),
    VisPruner(0.6, 0.7),
    VisPruner(7, 1.0),
    VisPruner(1),
]


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_selection_is_the_reference(layout, kind, method):
    for seed in range(2):
        signals = row(LAYOUTS[layout], kind, seed)
        assert kept_by(method, signals) == reference(method, signals)


def test_every_count_of_an_odd_picture():
    signals = row(LAYOUTS["odd picture"])
    for keep in range(1, len(signals) + 1):
        kept = kept_by(VisPruner(keep), signals)
        assert len(kept) == keep and kept == reference(VisPruner(keep), signals)


@pytest.mark.parametrize("method", [FasterVLM(0.3), VisPruner(0.3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_as_float32(method, dtype):
    signals = row(LAYOUTS["clip"], dtype=dtype)
    assert kept_by(method, signals) == reference(method, signals)


@pytest.mark.parametrize("kind", [FasterVLM, VisPruner])
def test_contract(kind):
    looking.assert_contract(kind(0.3), identity=kind(1.0))


@pytest.mark.parametrize("kind", [FasterVLM, VisPruner])
@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.1}, {"keep": True}, {"tower_layer": 0}])
def test_bad_options_raise(kind, options):
    with pytest.raises(OptionError):
        kind(**options)


@pytest.mark.parametrize("important", [-0.1, 1.1, float("nan")])
def test_a_bad_share_raises(important):
    with pytest.raises(OptionError):
        VisPruner(important=important)


@pytest.mark.parametrize("kind", [FasterVLM, VisPruner])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_reads_what_is_declared(kind, family):
    looking.assert_declared(kind(0.4), family, lambda total: wanted(0.4, total), by_frame=True)
