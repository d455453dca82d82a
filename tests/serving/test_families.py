"""Families beyond those that every test runs on: the stock engine where all is kept, the library where not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

import framefusion as ff
from tests.serving import clips
from tests.serving.checkpoints import BFLOAT16, WITH_PICTURES, WITH_VIDEOS, dtype_of
from tests.serving.engine import TAKES_METADATA, Engine, OneEngine
from tests.serving.stock_model import StockModel
from tests.serving.test_engine import watch
from tests.serving.test_pictures import asked, page, pictures
from tests.serving.test_pictures import watch as watch_pictures

ROPE = ("qwen2_vl", "minicpmv4_6", *TAKES_METADATA)
ENCODES_ALL = ("minicpmv4_6",)
# Frames of a clip of `corners` whose change is seen: a quarter of two time steps.
CHANGED = 8
# vLLM takes one video a request there.
ONE_VIDEO = ("glm4v", "llava_next_video")
NO_PICTURE = {"llava_next_video": {"limit_mm_per_prompt": {"video": 1}}}


def running(engines: OneEngine, name: str, settings: dict[str, Any]) -> Engine:
    return engines.of(name, settings, dtype=dtype_of(name), **NO_PICTURE.get(name, {}))


@pytest.fixture(scope="session", params=WITH_VIDEOS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def engine(name: str, engines: OneEngine) -> Engine:
    return running(engines, name, {"method": "framefusion", "keep": 0.5})


@pytest.fixture(scope="session")
def stock(name: str, checkpoints: dict) -> StockModel:
    return StockModel(name, checkpoints[name])


@pytest.fixture(scope="session", params=WITH_PICTURES)
def drawn(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def seeing(drawn: str, engines: OneEngine) -> Engine:
    settings = {"method": "divprune", "keep": 0.5, "pictures": True}
    return running(engines, drawn, settings | ({"method": "visionzip"} if drawn == "llava" else {}))


def question(engine: Engine, **settings: Any) -> dict[str, Any]:
    """Two videos and a picture, as far as the engine takes them."""
    one, seen = engine.name in ONE_VIDEO, [] if engine.name in NO_PICTURE else pictures()[:1]
    videos = [clips.moving(8, seed=1), *([] if one else [clips.moving(4, seed=2)])]
    text = "Look at {v}" + (" and {i}" if seen else "") + ("." if one else ", then at {v}.")
    return engine.request(text, videos, seen, **settings)


def features(name: str) -> float:
    return 0.05 if name in BFLOAT16 else 1e-4


def test_keeping_everything_is_the_stock_engine(engine):
    with engine.stock():
        (stock,) = engine.ask(question(engine))
        expected = torch.cat(engine.positions, -1)
    (whole,) = engine.ask(question(engine, keep=1.0))
    assert torch.equal(torch.cat(engine.positions, -1), expected)
    assert whole.tokens == stock.tokens and whole.scores == stock.scores
    assert len(whole.prompt) == len(stock.prompt)


def test_survivors_keep_their_positions_and_chunks_change_nothing(engine):
    engine.ask(question(engine, keep=1.0), tokens=1)
    whole = torch.cat(engine.positions, -1)
    (answer,) = engine.ask(question(engine, method="evs", keep=0.5))
    found = torch.cat(engine.positions, -1)
    if engine.name in ROPE:
        columns = {tuple(column) for column in whole.T.tolist()}
        reduced = found[:, : len(answer.prompt)]
        assert {tuple(column) for column in reduced.T.tolist()} < columns
        assert torch.equal(reduced[:, -1], whole[:, -1])
    with engine.chunks_of(40):
        (pieces,) = engine.ask(question(engine, method="evs", keep=0.5))
    assert torch.equal(torch.cat(engine.positions, -1), found)
    assert pieces.tokens == answer.tokens
    assert pieces.scores == pytest.approx(answer.scores, abs=2 * features(engine.name))


def test_what_is_kept_is_what_the_library_keeps(engine, stock):
    """The first frame and what changes: similarities that no rounding of half precision brings into another order."""
    keep = (
        clips.TOKENS[engine.name] // (4 if engine.name in TAKES_METADATA or engine.name == "qwen2_vl" else 8) + CHANGED
    )
    request = engine.request("See {v} now?", [clips.corners()], method="evs", keep=keep)
    engine.forget()
    served = watch(engine, request)
    seen = stock.ask(request["prompt"], [clips.corners()], ff.EVS(keep=keep))
    assert served.kept.tolist() == seen.kept.tolist() and len(served.kept) == keep
    assert torch.allclose(served.rows.float(), seen.rows.float(), atol=features(engine.name))


def test_units_that_pixels_leave_out_are_not_encoded(engine, stock):
    request = engine.request("See {v} now?", [clips.corners()], method="pixel_dedup")
    if engine.name in ENCODES_ALL:
        with pytest.raises(ValueError, match="pixels cannot decide on MiniCPMV4_6"):
            engine.ask(request)
        return
    engine.forget()
    served = watch(engine, request)
    seen = stock.ask(request["prompt"], [clips.corners()], ff.PixelDedup(mode="merge"))
    assert served.blocks - served.front == seen.patches < 0.6 * seen.patches_dense
    assert served.kept.tolist() == seen.kept.tolist()
    rows = (served.rows[served.kept].float(), seen.rows[seen.kept].float())
    assert torch.allclose(*rows, atol=features(engine.name))


LIBRARY = {"visionzip": ff.VisionZip(keep=0.5), "divprune": ff.DivPrune(keep=0.5)}


def test_pictures_of_families_without_videos(seeing, checkpoints):
    """All kept is the stock engine; half of them are those that the library keeps."""
    with seeing.stock():
        (stock,) = seeing.ask(asked(seeing) | {"mm_processor_kwargs": {}})
    (whole,) = seeing.ask(asked(seeing, {"method": "divprune", "keep": 1.0}))
    assert whole.tokens == stock.tokens and whole.scores == stock.scores
    assert len(whole.prompt) == len(stock.prompt)
    model = StockModel(seeing.name, checkpoints[seeing.name])
    for method in ("divprune", *(["visionzip"] if seeing.name == "llava" else [])):
        request = asked(seeing, {"method": method, "keep": 0.5})
        served = watch_pictures(seeing, request)
        seen = model.ask(request["prompt"], [], LIBRARY[method], pictures())
        kept = seen.kept[torch.isin(seen.kept, served.patches)]
        assert served.kept.tolist() == kept.tolist() and len(kept) == len(served.patches) // 2
        # What the library's VisionZip merges has entered the language model as one already.
        assert method == "visionzip" or torch.allclose(served.rows, seen.rows, atol=features(seeing.name))


def test_blocks_of_pictures_that_repeat_leave_the_prompt(seeing):
    """The same page as for the other families; LLaVA-1.5 has four patches for each of its blocks."""
    request = seeing.request("See {i} now?", [], [page()], pictures="pixel_prune")
    if seeing.name in ("llava_next", "idefics3"):
        with pytest.raises(ValueError, match="cannot"):
            seeing.ask(request)
        return
    kept = watch_pictures(seeing, request).kept.tolist()
    assert kept == [0, 5, 9, 15] if seeing.name == "gemma3" else 4 < len(kept) < 32


def test_a_layer_that_is_not_built_is_refused_for_the_request_alone(engines):
    engine = running(engines, "llava", {"method": "visionzip", "keep": 0.5, "pictures": True})
    with pytest.raises(ValueError, match="cannot read layer -1"):
        engine.ask(asked(engine, {"method": "visionzip", "tower_layer": -1}))
    assert engine.ask(asked(engine, True))[0].tokens
