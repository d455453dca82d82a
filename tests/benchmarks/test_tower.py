"""The preset of the vision tower on tiny clips, and the script that makes trained weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import cells, shapes
from benchmarks.tower import clips, measure, memory, model
from benchmarks.tower.controls import FewerFrames, RandomUnits, enlarged, smaller_side
from framefusion.cli.app import run_app
from framefusion.inference.video import write_clip
from scripts.trained_vit import state_of
from tests.support.tiny import moving_clip

FRAMES, SIDE = 8, 112


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Sizes of a moment, a folder with a clip, and one with a tower of random weights."""
    import transformers as hf

    monkeypatch.setattr(memory, "peak_apart", lambda frames, variant: ({memory.MEMORY: 1.0}, 2.0))
    monkeypatch.setitem(shapes.TEXTS, "tiny", shapes.Text(64, 96, 6, 4, 2, model.VIDEO + 1))
    for name, size in {"WIDTH": 32, "INNER": 64, "HEADS": 2}.items():
        monkeypatch.setattr(model, name, size)
    small = replace(cells.TOWER, shape="tiny", layers=2, frames=FRAMES // 2, patches=16, repeats=1, decode=2)
    monkeypatch.setattr(cells, "TOWER", small)
    videos, weights = tmp_path / "videos", tmp_path / "weights"
    videos.mkdir()
    write_clip(videos / "blocks.mp4", moving_clip(FRAMES, SIDE, SIDE, change=0.01), fps=8)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "image_size": SIDE}
    torch.manual_seed(0)
    hf.Dinov2Model(hf.Dinov2Config(**sizes)).save_pretrained(weights)
    return ["bench", "--preset", "tower", "--videos", str(videos), "--weights", str(weights)]


@pytest.mark.slow
def test_every_part_of_every_clip_has_its_rows(tiny, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    file, folder = tmp_path / "rows.jsonl", tmp_path / "shown"
    assert run_app([*tiny, "--rows", str(file), "--show", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert str(tmp_path) not in json.dumps(rows)
    found = {(row["clip"], row["part"], row["variant"]): row for row in rows}
    for clip in ("blocks", clips.STILL):
        whole, tower, decision = (found[clip, part, "reduced"] for part in ("end_to_end", "tower", "decision"))
        assert 0 < decision["median_ms"] < tower["median_ms"] < whole["median_ms"]
        assert tower["patches_share"] < 1.0 == found[clip, "tower", "dense"]["patches_share"]
        split = whole["split_ms"]
        assert min(split.values()) > 0 and sum(split.values()) - split["decision"] <= whole["median_ms"]
    still = found[clips.STILL, "tower", "reduced"]
    assert still["patches_share"] < found["blocks", "tower", "reduced"]["patches_share"]
    near = {name: row for (clip, part, name), row in found.items() if part == "fidelity" and clip == "blocks"}
    assert near["dense"]["cosine_p05"] == pytest.approx(1.0)
    assert {"reduced", "random units", "fewer frames", "smaller frames", "plain dropping"} < set(near)
    assert near["random units"]["patches_share"] == pytest.approx(near["reduced"]["patches_share"], abs=0.01)
    assert near["reduced"]["cosine_mean"] > near["random units"]["cosine_mean"]
    assert {row["peak_mib"] for row in rows if row["part"] == "memory"} == {2.0}
    assert {name for clip, part, name in found if clip == clips.FADE} == {"dense", "reduced"}
    assert found[clips.FADE, "fidelity", "reduced"]["patches_share"] < 0.5
    tables = (folder / "tables.md").read_text(encoding="utf-8")
    assert (folder / "tower.png").stat().st_size and "### Fidelity" in tables and "| random units |" in tables


def test_without_a_folder_of_its_own_there_is_always_a_clip(monkeypatch, tmp_path):
    monkeypatch.setattr(clips, "BESIDE", tmp_path / "none")
    assert clips.files(None)
    path = tmp_path / "light.mp4"
    write_clip(path, moving_clip(FRAMES, SIDE, SIDE, change=0.01), fps=8)
    fade = clips.faded(path).float()
    assert fade.shape == (300, SIDE, SIDE, 3)
    assert float(fade[-1].mean() / fade[0].mean()) == pytest.approx(1 - 299 * 0.002, abs=0.01)


@pytest.mark.parametrize("what", ["nothing", "no video"])
def test_a_folder_without_clips_is_refused(what, tmp_path, capsys):
    folder = tmp_path / what
    if what == "no video":
        folder.mkdir()
    assert run_app(["bench", "--preset", "tower", "--videos", str(folder), "--rows", str(tmp_path / "rows.jsonl")]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "--videos" in shown and "hint:" in shown


@pytest.mark.parametrize("count", [16, 20, 40, 64])
def test_controls_encode_as_many_units_as_they_are_told(count):
    frames, units = 4, 16
    drawn, whole = (control(count=count).mask(frames, units) for control in (RandomUnits, FewerFrames))
    assert drawn[0].all() and int(drawn.sum()) == count
    assert whole[0].all() and set(whole.sum(1).tolist()) <= {0, units}
    assert count <= int(whole.sum()) < count + units


def test_features_of_smaller_frames_keep_their_places():
    """A plane that rises along rows and columns stays one, whatever the size of the grid."""
    patches = torch.arange(8.0)
    plane = torch.stack(torch.meshgrid(patches, patches, indexing="ij"), -1) + 0.5
    units = plane.view(4, 2, 4, 2, 2).permute(0, 2, 1, 3, 4).reshape(1, 16, 4, 2)
    large = enlarged(units, 8)
    assert large.shape == (1, 64, 4, 2)
    square = large.view(8, 8, 2, 2, 2).permute(0, 2, 1, 3, 4).reshape(16, 16, 2)
    middle = (torch.arange(16.0) + 0.5) / 2
    assert torch.allclose(square[1:-1, 5, 0], middle[1:-1]) and torch.allclose(square[5, 1:-1, 1], middle[1:-1])


@pytest.mark.parametrize(("share", "side"), [(1.0, 112), (0.26, 84), (0.25, 56), (0.01, 28)])
def test_smaller_frames_have_at_least_the_share(share, side):
    assert smaller_side(112, share, 28) == side


def field(number, value):
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def tensor(name, values):
    shape = b"".join(field(1, size) for size in values.shape)
    return field(5, shape + field(2, 1) + field(8, name.encode()) + field(9, values.tobytes()))


def test_weights_of_matrix_products_get_the_name_of_their_path():
    draw = np.random.default_rng(0)
    query, bias, first, others = (draw.random(size, np.float32) for size in ((4, 3), (4,), (1, 1, 4), (1, 300, 4)))
    node = field(1, b"x") + field(1, b"anonymous") + field(2, b"y")
    node += field(3, b"/backbone/encoder/layer.0/attention/attention/query/MatMul") + field(4, b"MatMul")
    graph = field(1, node) + tensor("anonymous", query)
    graph += tensor("backbone.encoder.layer.0.attention.output.dense.bias", bias)
    graph += tensor("onnx::Concat_1957", first) + tensor("onnx::Reshape_1962", others) + tensor("head.weight", bias)
    state = state_of(field(1, 8) + field(7, graph))
    assert set(state) == {
        "encoder.layer.0.attention.q_proj.weight",
        "encoder.layer.0.attention.o_proj.bias",
        "embeddings.position_embeddings",
    }
    assert np.array_equal(state["encoder.layer.0.attention.q_proj.weight"], query.T)
    assert np.array_equal(state["embeddings.position_embeddings"], np.concatenate([first, others], 1))


def test_a_gpu_has_its_memory_measured_where_the_model_is(tiny, monkeypatch, tmp_path):
    class Gpu:
        type = "cuda"

    where = {"videos": tmp_path / "videos", "weights": tmp_path / "weights"}
    made = measure.build
    monkeypatch.setattr(measure, "build", lambda *sizes: made(*sizes[:-1]))
    monkeypatch.setattr(measure, "peak_here", lambda run, device: float(run()["end_to_end"] > 0))
    small = replace(cells.TOWER, dtype="bfloat16")
    monkeypatch.setattr(cells, "GPU_TOWER", small)
    of_tower = [cell for cell in cells.cells_of("gpu", **where) if cell.kind == "tower"]
    assert [cell.name for cell in of_tower] == ["7B tower, blocks", "7B tower, still"]
    rows = list(measure.measured(of_tower[0], Gpu(), lambda text: None))
    assert {part for _, part, _, _ in rows} == {"end_to_end", "tower", "decision", "memory"}
    assert [facts["peak_mib"] for _, part, _, facts in rows if part == "memory"] == [1.0, 1.0, 1.0]
