"""A backward pass through a reduced model, with and without gradient checkpointing."""

from __future__ import annotations

import pytest
import torch
import transformers
from packaging.version import Version

import framefusion as ff
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import every_family, families, few_families, identity, inputs, method, model
from tests.support.tiny import build_model


def labels(prompt):
    """The last three tokens of every row are the answer."""
    wanted = torch.full_like(prompt["input_ids"], -100)
    wanted[:, -3:] = prompt["input_ids"][:, -3:]
    return wanted


def loss_of(net, prompt):
    return net(**prompt, labels=labels(prompt), use_cache=False).loss


def gradients(net, *prompts):
    """Loss and gradients by name; all forwards run before the one backward."""
    net.zero_grad()
    loss = sum(loss_of(net, prompt) for prompt in prompts)
    loss.backward()
    found = {path: weight.grad for path, weight in net.named_parameters() if weight.grad is not None}
    net.zero_grad()
    return loss.detach(), found


def assert_equal(found, expected):
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for path, gradient in expected[1].items():
        torch.testing.assert_close(found[1][path], gradient, atol=1e-4, rtol=1e-3, msg=lambda m, path=path: path + m)


@every_family
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_gradients_of_the_identity_are_the_dense_ones(name, rows):
    net = model(name)
    expected = gradients(net, inputs(name, rows))
    with ff.reduce(net, identity()):
        assert_equal(gradients(net, inputs(name, rows)), expected)


@every_family
@pytest.mark.parametrize("rows", ["long", "ragged"])
def test_gradients_reach_the_vision_tower_and_the_decoder(name, rows):
    net = model(name)
    dense, _ = gradients(net, inputs(name, rows))
    with reduce_clips(net, method(name)) as reduction:
        loss, found = gradients(net, inputs(name, rows))
        assert reduction.report.kept_fraction < 1
    assert loss.isfinite() and not torch.equal(loss, dense)
    assert all(gradient.isfinite().all() for gradient in found.values())
    tower = [path for path in found if "vis" in path and "language" not in path]
    for part in (
        tower,
        [path for path in found if ".layers.0." in path],
        [path for path in found if ".layers.3." in path],
    ):
        assert part and any(found[path].abs().max() > 0 for path in part)


def checkpointed(name, reentrant):
    if reentrant and name == "qwen3_5":
        pytest.skip("refused, see test_refusals.py")
    if reentrant and name == "qwen3_vl" and Version(transformers.__version__) < Version("5.23"):
        pytest.skip("refused: hooks run inside the checkpoint, where re-entrant ones cannot share DeepStack's graph")
    net = build_model(name)
    net.gradient_checkpointing_enable({"use_reentrant": reentrant})
    net.enable_input_require_grads()
    return net.train()


@every_family
@pytest.mark.parametrize("reentrant", [False, True], ids=["saved", "reentrant"])
def test_checkpointing_changes_nothing(name, reentrant):
    net = checkpointed(name, reentrant)
    with reduce_clips(model(name), method(name)):
        expected = gradients(model(name), inputs(name))
    with reduce_clips(net, method(name)):
        assert_equal(gradients(net, inputs(name)), expected)


@few_families
@pytest.mark.parametrize("reentrant", [None, False, True], ids=["plain", "saved", "reentrant"])
def test_two_forwards_before_one_backward(name, reentrant):
    net = model(name) if reentrant is None else checkpointed(name, reentrant)
    prompts = inputs(name, "long"), inputs(name, "short")
    with reduce_clips(model(name), method(name)):
        first, second = (gradients(model(name), prompt) for prompt in prompts)
    paths = first[1].keys() | second[1].keys()
    total = {path: first[1].get(path, 0) + second[1].get(path, 0) for path in paths}
    with reduce_clips(net, method(name)):
        assert_equal(gradients(net, *prompts), (first[0] + second[0], total))


@families("qwen2_5_vl", "gemma3")
def test_the_backward_may_come_after_the_reduction(name):
    net = model(name)
    with reduce_clips(net, method(name)):
        expected = gradients(net, inputs(name))
        net.zero_grad()
        loss = loss_of(net, inputs(name))
    loss.backward()
    found = {path: weight.grad for path, weight in net.named_parameters() if weight.grad is not None}
    net.zero_grad()
    assert_equal((loss.detach(), found), expected)


@families("qwen2_5_vl", "llava_onevision")
def test_a_step_of_an_optimiser_lowers_the_loss(name):
    net, prompt = build_model(name), inputs(name)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
    with reduce_clips(net, method(name)):
        losses = []
        for _ in range(3):
            optimiser.zero_grad()
            loss = loss_of(net, prompt)
            loss.backward()
            optimiser.step()
            losses.append(float(loss))
    assert losses[2] < losses[0]


@families("qwen2_5_vl", "llava_onevision")
def test_frozen_weights_get_no_gradient(name):
    net = build_model(name).requires_grad_(False)
    net.get_output_embeddings().weight.requires_grad_(True)
    with reduce_clips(net, method(name)):
        loss_of(net, inputs(name)).backward()
    assert [path for path, weight in net.named_parameters() if weight.grad is not None]
