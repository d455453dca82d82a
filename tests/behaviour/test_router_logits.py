"""Router logits of mixtures of experts have the prompt's length, and the balancing loss takes them."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.method import after_attention, before
from framefusion.models.table import read_table
from framefusion.testing.conformance.contract import Halve, spliced
from framefusion.testing.conformance.toy import build, names, toy_of
from tests.behaviour.support import families, inputs, method, model

EVERYWHERE = Halve((before(0), after_attention(1), before(2)))
MIXTURES = (
    "aria", "ernie4_5_vl_moe", "glm4v_moe", "kimi_k25", "minimax_m3_vl", "mistral4", "muse_spark",
    "qwen3_5_moe", "qwen3_omni_moe_thinker", "qwen3_vl_moe", "step3p7",
)  # fmt: skip


@pytest.mark.parametrize("kind", MIXTURES)
@torch.no_grad()
def test_router_logits_of_every_mixture(kind):
    known = dict(names())
    if kind not in known or kind not in read_table():
        pytest.skip(f"this transformers has no {kind}")
    net = build(kind, known[kind])
    prompt = toy_of(net).prompt()
    columns = prompt.inputs["input_ids"].numel()
    with spliced(net, prompt):
        dense = getattr(net(**prompt.inputs, output_router_logits=True), "router_logits", None)
        if dense is None:
            pytest.skip(f"{kind} returns no router logits in this transformers")
        with ff.reduce(net, EVERYWHERE, layout=prompt.layout) as reduction:
            output = net(**prompt.inputs, output_router_logits=True)
    assert [part.shape for part in output.router_logits] == [part.shape for part in dense]
    assert {part.shape[0] for part in output.router_logits} == {columns}
    assert reduction.report.kept_tokens < reduction.report.visual_tokens


@families("qwen3_vl_moe", "qwen3_5_moe")
@pytest.mark.parametrize("rows", ["long", "ragged"])
@pytest.mark.parametrize("training", [False, True])
def test_values_and_the_balancing_loss(name, rows, training):
    """A surviving column shows what its router computed; in a padded batch the loss leaves padding out."""
    net, prompt, act, seen = model(name), inputs(name, rows), method(name), []
    labels = prompt["input_ids"].clone()
    labels[:, :-3] = -100
    gates = [m for path, m in net.get_decoder().named_modules() if path.endswith("mlp.gate")]
    last = gates[-1].register_forward_hook(lambda module, args, output: seen.append(output[0].detach()))
    try:
        with torch.set_grad_enabled(training), ff.reduce(net, act) as reduction:
            output = net(**prompt, labels=labels, output_router_logits=True)
            if training:
                output.loss.backward()
    finally:
        last.remove()
        net.zero_grad()
    batch, columns = prompt["input_ids"].shape
    assert {part.shape[0] for part in output.router_logits} == {batch * columns}
    computed = seen[0].view(batch, -1, seen[0].shape[-1])
    shown = output.router_logits[-1].view(batch, columns, -1)
    for row, kept in enumerate(reduction.report.surviving_columns):
        if not training:  # where nothing has to be kept for a backward pass, the router reads the survivors alone
            torch.testing.assert_close(shown[row, kept], computed[row, -len(kept) :])
        assert torch.isin(shown[row].detach(), computed[row]).all()
    assert torch.isfinite(output.aux_loss) and 0.5 < output.aux_loss < 4
