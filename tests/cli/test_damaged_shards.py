"""Random damage to checkpoints in several files, in full precision and quantised: each loads or is one error."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors import safe_open
from safetensors.torch import save_file

from framefusion.cli.app import run_app
from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.video import write_clip
from tests.cli.test_damaged import COMMANDS, refuses
from tests.support.damaged import CONFIG, INDEX, WEIGHTS
from tests.support.tiny import build_model, moving_clip, save_checkpoint

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


def with_header(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


SAME_SIZE = {"F32": ("I32", "U32"), "BF16": ("F16", "I16"), "I8": ("U8", "F8_E4M3", "BOOL"), "U8": ("I8", "BOOL")}


def retyped(file: Path, dice: random.Random) -> None:
    def change(header: dict[str, Any]) -> None:
        weight = header[dice.choice([name for name in header if name.endswith("weight")])]
        weight["dtype"] = dice.choice(SAME_SIZE[weight["dtype"]])

    with_header(file, change)


def part_lost(file: Path, dice: random.Random) -> None:
    """A weight, or a part of it such as the scales of its quantisation."""
    with safe_open(file, "pt") as found:
        held, metadata = {name: found.get_tensor(name) for name in found.keys()}, found.metadata()  # noqa: SIM118
    held.pop(dice.choice([name for name in sorted(held) if not name.endswith("weight_format")]))
    save_file(held, file, metadata)


def held_twice(file: Path, dice: random.Random) -> None:
    """A weight of one file, with other values, in another one as well."""
    other = next(each for each in sorted(file.parent.glob("*.safetensors")) if each != file)
    with safe_open(other, "pt") as found:
        name = dice.choice(sorted(found.keys()))
        weight = found.get_tensor(name)
    with safe_open(file, "pt") as found:
        held, metadata = {each: found.get_tensor(each) for each in found.keys()}, found.metadata()  # noqa: SIM118
    save_file(held | {name: torch.zeros_like(weight)}, file, metadata)


DAMAGE = (flipped, in_header, ended, emptied, lost, swapped, misnamed, quantised_otherwise, linked)
DAMAGE += (retyped, part_lost, held_twice)
MUST_FAIL = (ended, emptied, lost, linked, retyped, part_lost, held_twice)
# Other values are no contradiction, and other settings may be meant.
MAY_DIFFER = (flipped, quantised_otherwise)


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


def said_by(model: Any) -> list[float] | None:
    """Logits of a few words; None where the parts do not fit, which is an error of the checkpoint with the answer."""
    try:
        with torch.no_grad():
            return model(input_ids=torch.tensor([[65, 66, 67]])).logits.flatten().tolist()
    except (RuntimeError, IndexError, ValueError):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_random_damage_loads_or_is_one_error(damage, whole, tmp_path):
    said = said_by(load_checkpoint(str(whole), device="cpu").model)
    assert said is not None
    for seed in range(TIMES):
        dice, folder = random.Random(f"{damage.__name__}{seed}"), tmp_path / str(seed)
        shutil.copytree(whole, folder)
        damage(dice.choice(sorted(folder.glob("*.safetensors"))), dice)
        try:
            model = load_checkpoint(str(folder), device="cpu").model
        except CheckpointError as error:
            assert error.why and error.hint
        else:
            assert damage not in MUST_FAIL
            assert damage in MAY_DIFFER or said_by(model) in (None, said)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    save_checkpoint("qwen2_5_vl", folder, layers=2)
    (folder / WEIGHTS).unlink()
    build_model("qwen2_5_vl", layers=2).save_pretrained(folder, max_shard_size="60KB")
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_clip(path, moving_clip(4, 56, 56), fps=4.0)
    return path


def indexed_elsewhere(file: Path, dice: random.Random) -> None:
    """Two weights of two files, each said to be in the other's."""
    index = file.parent / INDEX
    found = json.loads(index.read_text())
    weights = found["weight_map"]
    first = next(weight for weight in weights if weights[weight] == file.name)
    other = next(weight for weight in weights if weights[weight] != file.name)
    weights[first], weights[other] = weights[other], weights[first]
    index.write_text(json.dumps(found))


IN_ANY_COMMAND = (ended, emptied, lost, linked, retyped, part_lost, held_twice, indexed_elsewhere)
MORE_COMMANDS = {
    "serve": ["serve", "{model}"],
    "run, narrow cache": [*COMMANDS["run"], "--quantize", "kv=sim4"],
}
WORDS = {name: COMMANDS[name] for name in COMMANDS if name != "map"} | MORE_COMMANDS


# Only a model that is built tells what it lacks; a server is told before it builds one.
PAIRS = [pair for pair in product(WORDS, IN_ANY_COMMAND) if pair != ("serve", part_lost)]


@pytest.mark.parametrize(("command", "damage"), PAIRS)
def test_every_command_names_the_damage(command, damage, sharded, video, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("framefusion.integrations.vllm.command.start", lambda command: pytest.fail("it was started"))
    dice, folder = random.Random(f"{command}{damage.__name__}"), tmp_path / "model"
    shutil.copytree(sharded, folder)
    damage(dice.choice(sorted(folder.glob("*.safetensors"))[:-1]), dice)
    refuses([word.format(model=folder, video=video, out=tmp_path / "out") for word in WORDS[command]], capsys)
    assert not list(tmp_path.glob("out*")) or command in ("evaluate", "study")


def a_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as found:
        before = os.getcwd()
        os.chdir(place.parent)  # the name of a socket has 107 bytes at most
        try:
            found.bind(place.name)
        finally:
            os.chdir(before)


def a_device(place: Path) -> None:
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", [os.mkfifo, a_socket, a_device])
@pytest.mark.parametrize("file", ["chat_template.jinja", "model.safetensors", "additional_chat_templates/a.jinja"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(file, kind, tmp_path, capsys):
    folder = tmp_path / "model"
    save_checkpoint("qwen2_5_vl", folder, layers=1)
    (folder / file).unlink(missing_ok=True)
    (folder / file).parent.mkdir(exist_ok=True)
    kind(folder / file)
    assert run_app(["evaluate", "--model", str(folder), "--samples", "12", "--out", str(tmp_path / "out.jsonl")]) == 2
    seen = capsys.readouterr().err
    assert f"`{file}` is neither a file nor a folder" in seen and "hint: " in seen


def test_a_pipe_as_a_shard_deep_in_a_checkpoint(sharded, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "model")
    found = json.loads((folder / INDEX).read_text())
    (folder / "a" / "b").mkdir(parents=True)
    os.mkfifo(folder / "a" / "b" / "c.safetensors")
    found["weight_map"][min(found["weight_map"])] = "a/b/c.safetensors"
    (folder / INDEX).write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match=r"`a/b/c\.safetensors` is neither"):
        load_checkpoint(str(folder), device="cpu")
