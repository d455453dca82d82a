"""Weight files whose headers contradict each other or themselves: an error, where a reader would give other weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import load_checkpoint
from tests.support.damaged import INDEX
from tests.support.tiny import build_model, save_checkpoint

LAYER, HEAD, NORM, BIAS = "layers.1.mlp.up_proj.weight", "lm_head.weight", "model.norm.weight", "merger.mlp.2.bias"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_checkpoint("qwen2_5_vl", folder, layers=2, dtype=torch.bfloat16)
    (folder / "model.safetensors").unlink()
    build_model("qwen2_5_vl", layers=2, dtype=torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
    assert (folder / INDEX).exists()
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def stored(folder: Path, name: str, change) -> str:
    """Stores the weight whose name ends with `name` as `change` makes it; returns the whole name."""
    weights = json.loads((folder / INDEX).read_text())["weight_map"]
    weight = next(each for each in weights if each.endswith(name))
    held = load_file(folder / weights[weight])
    save_file(held | {weight: change(held[weight])}, folder / weights[weight], metadata={"format": "pt"})
    return weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.int16, torch.uint16])
@pytest.mark.parametrize("name", [LAYER, HEAD, NORM, BIAS])
def test_a_type_that_is_not_a_weights_own(name, dtype, folder):
    weight = stored(folder, name, lambda held: held.view(dtype))
    with pytest.raises(CheckpointError, match=f"`{weight}`.* is said to"):
        load_checkpoint(str(folder), device="cpu")


def test_a_weight_in_two_files(folder):
    files = sorted(folder.glob("*.safetensors"))
    name, weight = next(iter(load_file(files[0]).items()))
    save_file(load_file(files[1]) | {name: torch.zeros_like(weight)}, files[1], metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"`{name}` is in {files[0].name} and in {files[1].name}"):
        load_checkpoint(str(folder), device="cpu")


def test_an_index_of_other_files(folder):
    found = json.loads((folder / INDEX).read_text())
    weights = found["weight_map"]
    first, *_, last = sorted(weights)
    weights[first], weights[last] = weights[last], weights[first]
    (folder / INDEX).write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match=f"{INDEX} puts `{first}` in {weights[first]}, but it is in"):
        load_checkpoint(str(folder), device="cpu")


def test_types_that_checkpoints_do_mix(folder):
    """Norms in full precision, a tower in another half, buffers of whole numbers, an old single file left behind."""
    weights = json.loads((folder / INDEX).read_text())["weight_map"]
    stored(folder, NORM, lambda held: held.float())
    stored(folder, LAYER, lambda held: held.float())
    for name in weights:
        if name.startswith("visual."):
            stored(folder, name, lambda held: held.half())
    file = folder / weights["model.norm.weight"]
    save_file(load_file(file) | {"visual.position_ids": torch.arange(4)}, file, metadata={"format": "pt"})
    model = load_checkpoint(str(folder), dtype="float32", device="cpu").model
    assert isinstance(model, hf.Qwen2_5_VLForConditionalGeneration)
