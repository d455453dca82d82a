"""A model spread over two devices by accelerate: every tensor of ours follows the layer it meets.

Two real accelerators are not at hand. `PretendDevices` gives the tensors of one CPU places and fails wherever an
operation would mix them; accelerate's own hooks move the inputs of every module, as `device_map="auto"` installs them.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec

import pytest
import torch

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, families, inputs, method, model
from tests.support.devices import FIRST, SECOND, MixedDevices, PretendDevices, place_of
from tests.support.scripted import Scripted
from tests.support.tiny import build_model

pytestmark = pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")

TOKENS = 3
# One of each kind of signal: hidden states, scores, attention per head, keys, the vision tower, values along the way.
METHODS = {
    "framefusion": method,
    "scripted": lambda name: Scripted(),
    "sparsevlm": lambda name: ff.SparseVLM(),
    "dart": lambda name: ff.DART(keep=0.4),
    "visionzip": lambda name: ff.VisionZip(keep=0.4),
    "prumerge": lambda name: ff.PruMerge(keep=0.4),
}
some_families = families("qwen2_5_vl", "qwen3_vl", "llava_onevision")


def device_map(net):
    """The vision tower and every other layer on the first device, the layers in between on the second."""
    decoder = net.get_decoder()
    found = {}

    def walk(path, module):
        found.update({f"{path}.{own}".lstrip("."): FIRST for own, _ in module.named_parameters(recurse=False)})
        for name, child in module.named_children():
            inner = f"{path}.{name}".lstrip(".")
            if child is decoder or any(part is decoder for part in child.modules()):
                walk(inner, child)
            elif child is decoder.layers:
                found.update({f"{inner}.{n}": SECOND if n % 2 else FIRST for n in range(len(decoder.layers))})
            elif any(True for _ in (*child.parameters(), *child.buffers())):
                found[inner] = FIRST

    walk("", net)
    return found


@contextmanager
def spread(net):
    from accelerate import dispatch_model

    with PretendDevices():
        dispatch_model(net, device_map(net), force_hooks=True, skip_keys=cache_name())
        assert {place_of(weight) for weight in net.get_decoder().layers.parameters()} == {FIRST, SECOND}
        yield net


@pytest.mark.slow
@some_families
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_no_tensor_meets_one_of_another_device(name, rows):
    prompt = inputs(name, rows)
    expected = {"dense": answer(model(name), prompt, TOKENS).tolist()}
    for label, make in METHODS.items():
        with ff.reduce(model(name), make(name)):
            expected[label] = answer(model(name), prompt, TOKENS).tolist()
    with spread(build_model(name)) as net:
        assert answer(net, prompt, TOKENS).tolist() == expected["dense"]
        for label, make in METHODS.items():
            with ff.reduce(net, make(name)) as reduction:
                assert answer(net, prompt, TOKENS).tolist() == expected[label], label
            assert reduction.report.kept_fraction < 1


@families("qwen3_vl")
def test_training_over_two_devices(name):
    prompt = inputs(name)
    labels = prompt["input_ids"].masked_fill(prompt["attention_mask"] == 0, -100)
    with reduce_clips(model(name), method(name)):
        expected = model(name)(**prompt, labels=labels).loss.item()
    with spread(build_model(name)) as net, reduce_clips(net, method(name)):
        assert net(**prompt, labels=labels).loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_detector_sees_a_forgotten_move():
    """A layer whose weights are elsewhere and whose inputs nobody moves."""
    net = build_model("qwen2_5_vl")
    with PretendDevices():
        net.get_decoder().layers[1].to(SECOND)
        with pytest.raises(MixedDevices, match="cpu:2"), torch.no_grad():
            net(**inputs("qwen2_5_vl", "text"))
        here, there = torch.ones(3, device=FIRST), torch.ones(3, device=SECOND)
        for mix in (lambda: here + there, lambda: torch.cat([here, there]), lambda: here[there.long()]):
            with pytest.raises(MixedDevices):
                mix()
        assert (here + there.to(here.device)).device == FIRST
        assert here[torch.tensor([0, 2])].device == FIRST
        assert (torch.tensor(2.0) * there).device == SECOND
