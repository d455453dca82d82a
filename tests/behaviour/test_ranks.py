"""Two processes share one model's heads, or one list of prompts: they decide alike, and answer as one process does."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import transformers as hf
from torch import distributed

import framefusion as ff
from tests.behaviour.support import answer, inputs, method
from tests.support.ranks import WORLD, run_ranks
from tests.support.tiny import FAMILIES, build_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (distributed.is_available() and distributed.is_gloo_available()), reason="torch was built without gloo"
    ),
]

LAYER = "model.language_model.layers.*.self_attn."
# Qwen3-VL comes without a plan of its own. The last plan shards the projections and brings their outputs together
# again, so that every rank computes attention over all heads.
PLANS = {
    "qwen2_5_vl": ("qwen2_5_vl", "auto"),
    "llava_onevision": ("llava_onevision", "auto"),
    "qwen3_vl": ("qwen3_vl", {LAYER + f"{part}_proj": "colwise" for part in "qkv"} | {LAYER + "o_proj": "rowwise"}),
    "gathered": (
        "qwen2_5_vl",
        {LAYER + f"{part}_proj": "colwise_gather_output" for part in "qkv"} | {LAYER + "o_proj": "rowwise_split_input"},
    ),
}
# One of each kind of signal: none, the mean over heads, every head, keys, text and queries, the vision tower.
METHODS = {
    "identity": lambda name: ff.FrameFusion(cost=1.0),
    "framefusion": method,
    "sparsevlm": lambda name: ff.SparseVLM(),
    "dart": lambda name: ff.DART(keep=0.4),
    "adaptprune": lambda name: ff.AdaptPrune(keep=0.4),
    "visionzip": lambda name: ff.VisionZip(keep=0.4),
}
TOKENS = 3
NAME, ROWS = "qwen2_5_vl", ["long", "short", "text"]


def answers(name, net):
    """What every method kept of a padded batch, what it answered, and what it says the cache took."""
    found = {"dense": [answer(net, inputs(name), TOKENS).tolist()]}
    for label, make in METHODS.items():
        with ff.reduce(net, make(name)) as reduction:
            tokens = answer(net, inputs(name), TOKENS).tolist()
        found[label] = [tokens, reduction.report.surviving_columns, reduction.report.kv_bytes]
    return found


def split_heads(folder):
    from transformers.distributed.configuration_utils import DistributedConfig

    found = {}
    for label, (name, plan) in PLANS.items():
        net = getattr(hf, FAMILIES[name].model_class).from_pretrained(
            folder / name, distributed_config=DistributedConfig(tp_size=WORLD, tp_plan=plan)
        )
        net.generation_config.eos_token_id = None
        attention = net.get_decoder().layers[0].self_attn
        held = attention.q_proj.weight.to_local().shape[0] / attention.q_proj.weight.shape[0]
        found[label] = {"share of the weights": held} | answers(name, net.eval())
    return found


def split_prompts():
    """The recipe of docs/scaling.md: every process has the whole model, and its part of the prompts."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    net = build_model(NAME)
    with PartialState(cpu=True).split_between_processes(ROWS) as mine, ff.reduce(net, method(NAME)):
        found = [answer(net, inputs(NAME, row), TOKENS)[0].tolist() for row in mine]
    return [len(mine), gather_object(found)]


def work(folder):
    prompts = split_prompts() if find_spec("accelerate") else None
    return {"heads": split_heads(folder), "prompts": prompts}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensor_parallel")
    for name, _ in PLANS.values():
        build_model(name).save_pretrained(folder / name)
    return run_ranks(folder, work)


@pytest.fixture(scope="module")
def alone():
    names = {name for name, _ in PLANS.values()}
    return {name: json.loads(json.dumps(answers(name, build_model(name)))) for name in names}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("label", ["dense", *METHODS])
def test_all_ranks_answer_as_one_process(ranks, alone, plan, label):
    name, _ = PLANS[plan]
    expected = alone[name][label]
    for found in ranks:
        assert found["heads"][plan]["share of the weights"] == 1 / WORLD
        assert found["heads"][plan][label][:2] == expected[:2]
    if label not in ("dense", "identity"):
        assert expected[1] != alone[name]["identity"][1]


@pytest.mark.parametrize("plan", PLANS)
def test_the_report_counts_the_cache_of_its_rank(ranks, alone, plan):
    name, _ = PLANS[plan]
    share = 1 if plan == "gathered" else WORLD
    expected = alone[name]["framefusion"][2] / share
    assert [found["heads"][plan]["framefusion"][2] for found in ranks] == [expected] * WORLD


@pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate")
def test_prompts_split_over_ranks_get_the_answers_of_one_process(ranks):
    net = build_model(NAME)
    with ff.reduce(net, method(NAME)):
        expected = [answer(net, inputs(NAME, row), TOKENS)[0].tolist() for row in ROWS]
    assert [found["prompts"][0] for found in ranks] == [2, 1]
    assert [found["prompts"][1] for found in ranks] == [expected] * WORLD
