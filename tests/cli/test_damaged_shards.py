"""Random damage to checkpoints in several files, in full precision and quantised: each loads or is one error."""

from __future__ import annotations

import json
import os
import random
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import transformers as hf

from framefusion.cli.app import run_app
from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import load_checkpoint
from tests.support.damaged import CONFIG, INDEX
from tests.support.tiny import save_checkpoint

TIMES = 3
PLACES = ["nothing.safetensors", CONFIG, "../x.safetensors", "/etc/hostname", "", None, 5, ".", "x" * 300]
SETTINGS = [None, 0, -1, 2.5, "x", "", [], {}, 10**30, {"quant_method": "x"}, {"quant_method": 5}]


def flipped(file: Path, dice: random.Random, end: int | None = None) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(dice.choice([1, 8, 50])):
        data[dice.randrange(end or len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


def in_header(file: Path, dice: random.Random) -> None:
    flipped(file, dice, 8 + int.from_bytes(file.read_bytes()[:8], "little"))


def ended(file: Path, dice: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: dice.randrange(file.stat().st_size)])


def swapped(file: Path, dice: random.Random) -> None:
    other = dice.choice([each for each in sorted(file.parent.glob("*.safetensors")) if each != file])
    data = other.read_bytes()
    other.write_bytes(file.read_bytes())
    file.write_bytes(data)


def misnamed(file: Path, dice: random.Random) -> None:
    index = file.parent / INDEX
    found = json.loads(index.read_text())
    for weight in dice.sample(sorted(found["weight_map"]), 3):
        found["weight_map"][weight] = dice.choice([*PLACES, file.name])
    index.write_text(json.dumps(found))


def quantised_otherwise(file: Path, dice: random.Random) -> None:
    config = file.parent / CONFIG
    found = json.loads(config.read_text())
    held = found.get("quantization_config")
    if held and dice.random() < 0.7:
        held[dice.choice(sorted(held))] = dice.choice(SETTINGS)
    else:
        found["quantization_config"] = dice.choice(SETTINGS)
    config.write_text(json.dumps(found))


def linked(file: Path, dice: random.Random) -> None:
    file.unlink()
    file.symlink_to(dice.choice(["nowhere", file.name, "/dev/null"]))


def emptied(file: Path, dice: random.Random) -> None:
    file.write_bytes(b"")


def lost(file: Path, dice: random.Random) -> None:
    file.unlink()


DAMAGE = (flipped, in_header, ended, emptied, lost, swapped, misnamed, quantised_otherwise, linked)
MUST_FAIL = (ended, emptied, lost, linked)


def _torchao() -> object:
    from torchao.quantization import Int8WeightOnlyConfig

    return hf.TorchAoConfig(Int8WeightOnlyConfig())


KINDS = {
    "sharded": ("torch", lambda: None),
    "torchao": ("torchao", _torchao),
    "bitsandbytes-int8": ("bitsandbytes", lambda: hf.BitsAndBytesConfig(load_in_8bit=True)),
    "bitsandbytes-int4": ("bitsandbytes", lambda: hf.BitsAndBytesConfig(load_in_4bit=True)),
}


@pytest.fixture(scope="module", params=KINDS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    package, make = KINDS[request.param]
    if find_spec(package) is None:
        pytest.skip(f"needs {package}")
    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("whole")
    save_checkpoint("qwen2_5_vl", plain, layers=1)
    model = hf.AutoModelForImageTextToText.from_pretrained(plain, quantization_config=make())
    model.save_pretrained(folder, max_shard_size="60KB")
    hf.AutoProcessor.from_pretrained(plain).save_pretrained(folder)
    assert (folder / INDEX).exists()
    load_checkpoint(str(folder), device="cpu")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_random_damage_loads_or_is_one_error(damage, whole, tmp_path):
    for seed in range(TIMES):
        dice, folder = random.Random(f"{damage.__name__}{seed}"), tmp_path / str(seed)
        shutil.copytree(whole, folder)
        damage(dice.choice(sorted(folder.glob("*.safetensors"))), dice)
        try:
            load_checkpoint(str(folder), device="cpu")
        except CheckpointError as error:
            assert error.why and error.hint
        else:
            assert damage not in MUST_FAIL


@pytest.mark.parametrize("file", ["chat_template.jinja", "model.safetensors"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(file, tmp_path, capsys):
    folder = tmp_path / "model"
    save_checkpoint("qwen2_5_vl", folder, layers=1)
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert run_app(["evaluate", "--model", str(folder), "--samples", "12", "--out", str(tmp_path / "out.jsonl")]) == 2
    seen = capsys.readouterr().err
    assert f"`{file}` is neither a file nor a folder" in seen and "hint: " in seen
