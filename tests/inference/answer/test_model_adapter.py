"""Adapters of PEFT are merged exactly, and what is none or another model's is refused in one line."""

import json
import shutil

import pytest
import torch

from framefusion.cli.app import run_app
from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.tiny import NAME
from framefusion.inference.video import write_clip
from tests.support.tiny import build_model, moving_clip

peft = pytest.importorskip("peft")

TEXT = torch.arange(4, 24)[None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An adapter that changes what the embedded model says, and the logits it says with PEFT around it."""
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    torch.manual_seed(1)
    model = load_checkpoint(NAME, device="cpu").model
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=r".*layers.*\b(q_proj|down_proj)"))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.4)
    wrapped.eval().save_pretrained(folder)
    with torch.no_grad():
        return folder, wrapped(input_ids=TEXT).logits


@pytest.fixture()
def copied(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "copied")


def refused(adapter):
    with pytest.raises(CheckpointError) as found:
        load_checkpoint(NAME, device="cpu", adapter=adapter)
    assert found.value.hint
    assert "\n" not in found.value.what + found.value.why
    return f"{found.value.what} {found.value.why}"


def test_a_merged_adapter_answers_as_the_model_inside_peft(trained):
    folder, wanted = trained
    plain, adapted = load_checkpoint(NAME, device="cpu"), load_checkpoint(NAME, device="cpu", adapter=folder)
    with torch.no_grad():
        found, before = adapted.model(input_ids=TEXT).logits, plain.model(input_ids=TEXT).logits
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    assert (found - before).abs().max() > 0.1
    assert adapted.model.state_dict().keys() == plain.model.state_dict().keys()
    assert not adapted.model.training


@pytest.mark.parametrize("name", ["nowhere/at/all", "empty"])
def test_what_is_no_adapter_is_refused(name, tmp_path):
    (tmp_path / "empty").mkdir()
    assert name in refused(tmp_path / name)


def test_an_adapter_of_another_model_is_refused(trained, tmp_path):
    other = peft.get_peft_model(build_model("llava"), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    other.save_pretrained(tmp_path / "other")
    assert "other" in refused(tmp_path / "other")


def test_a_damaged_file_is_refused(copied):
    file = copied / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "copied" in refused(copied)


def test_half_an_adapter_is_refused(copied):
    from safetensors.torch import load_file, save_file

    file = copied / "adapter_model.safetensors"
    state = load_file(file)
    save_file({key: value for key, value in state.items() if "layers.3" not in key}, file)
    assert "lacks 4 weights" in refused(copied)


def test_a_configuration_that_asks_for_all_memory_is_refused(copied):
    file = copied / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 2**40}))
    assert "copied" in refused(copied)


def test_a_number_that_is_none_is_refused(copied):
    from safetensors.torch import load_file, save_file

    file = copied / "adapter_model.safetensors"
    state = load_file(file)
    next(iter(state.values())).fill_(float("nan"))
    save_file(state, file)
    assert "copied" in refused(copied)


def test_the_commands_take_it(trained, tmp_path, capsys):
    folder, _ = trained
    write_clip(tmp_path / "clip.mp4", moving_clip(frames=8), fps=4.0)
    asked = ["run", str(tmp_path / "clip.mp4"), "what colour is the circle?", "--frames", "8", "--device", "cpu"]
    answers = []
    for more in ([], ["--adapter", str(folder)]):
        assert run_app([*asked, *more, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["reduced"]["text"])
    assert answers[0] != answers[1]
    assert run_app(["evaluate", "--adapter", str(tmp_path), "--samples", "12"]) == 2
    assert "cannot load the adapter" in capsys.readouterr().err
