"""Threads, accelerate, PEFT, int8 layers and half precision around a reduced model."""

from __future__ import annotations

from importlib.util import find_spec
from threading import Barrier, Thread

import pytest
import torch

import framefusion as ff
from framefusion.engine.model.cache_names import cache_of
from framefusion.inference.reduction import reduce_clips
from tests.behaviour.support import answer, every_family, families, few_families, identity, inputs, method, model
from tests.support.tiny import build_model


def needs(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


def together(*actions):
    """Results of actions that start at the same moment, each in its thread."""
    results, start = [None] * len(actions), Barrier(len(actions))

    def work(number):
        start.wait(60)
        try:
            results[number] = actions[number]()
        except Exception as error:
            results[number] = error

    threads = [Thread(target=work, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


@pytest.mark.parametrize("pair", [("qwen2_5_vl", "gemma3"), ("qwen3_vl", "llava_onevision"), ("qwen2_vl", "qwen2_vl")])
def test_two_models_in_two_threads(pair):
    def run(number):
        net, name = build_model(pair[number], seed=number), pair[number]

        def action():
            found = []
            for _ in range(3):
                with reduce_clips(net, method(name)):
                    found.append(answer(net, inputs(name)).tolist())
            return found

        return action

    expected = [run(0)(), run(1)()]
    assert together(run(0), run(1)) == expected


@few_families
def test_two_threads_on_one_reduced_model(name):
    net = model(name)
    with reduce_clips(net, method(name)):
        expected = [answer(net, inputs(name, rows)).tolist() for rows in ("long", "short")]
        runs = [lambda rows=rows: answer(net, inputs(name, rows)).tolist() for rows in ("long", "short")]
        assert together(*runs) == expected


@needs("accelerate")
@every_family
def test_accelerate_hooks_survive(name):
    from accelerate import cpu_offload

    with reduce_clips(model(name), method(name)):
        expected = answer(model(name), inputs(name)).tolist()
    net = build_model(name)
    cpu_offload(net, execution_device=torch.device("cpu"))
    try:
        answer(net, inputs(name), 1)
    except NotImplementedError:
        pytest.skip("the dense model cannot be offloaded either: it reads a parameter outside of any module's forward")
    hooked = {path for path, module in net.named_modules() if hasattr(module, "_hf_hook")}
    with reduce_clips(net, method(name)):
        assert answer(net, inputs(name)).tolist() == expected
    assert {path for path, module in net.named_modules() if hasattr(module, "_hf_hook")} == hooked
    assert hooked


@needs("peft")
@few_families
def test_a_peft_adapter_stays_active(name):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    net = get_peft_model(build_model(name), config).eval()
    dense = answer(net, inputs(name)).tolist()
    with ff.reduce(net, identity()):
        assert answer(net, inputs(name)).tolist() == dense
    with reduce_clips(net, method(name)) as reduction, torch.no_grad():
        adapted = net(**inputs(name)).logits
        with net.disable_adapter():
            assert (net(**inputs(name)).logits - adapted).abs().max() > 1e-2
        assert reduction.report.kept_fraction < 1
    assert answer(net, inputs(name)).tolist() == dense
    merged = net.merge_and_unload()
    with reduce_clips(merged, method(name)), torch.no_grad():
        torch.testing.assert_close(merged(**inputs(name)).logits, adapted, atol=1e-3, rtol=1e-3)


@needs("torchao")
@few_families
def test_int8_layers(name):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    net = build_model(name)
    quantize_(net.get_decoder().layers, Int8WeightOnlyConfig())
    dense = answer(net, inputs(name)).tolist()
    with ff.reduce(net, identity()):
        assert answer(net, inputs(name)).tolist() == dense
    with reduce_clips(net, method(name)), torch.no_grad():
        logits = net(**inputs(name)).logits[:, -1]
    with reduce_clips(model(name), method(name)), torch.no_grad():
        plain = model(name)(**inputs(name)).logits[:, -1]
    assert (logits - plain).norm() < 0.3 * plain.norm()
    assert answer(net, inputs(name)).tolist() == dense


@every_family
def test_half_precision(name):
    half, prompt = build_model(name, dtype=torch.bfloat16), inputs(name)
    with reduce_clips(model(name), method(name)) as full, torch.no_grad():
        cache = cache_of(model(name)(**prompt, use_cache=True))
    with reduce_clips(half, method(name)) as reduction:
        assert answer(half, prompt).shape == (2, 8)
    assert reduction.report.cost == pytest.approx(full.report.cost, rel=0.25)
    # The state of a recurrence stays in float32.
    recurrent = sum(state.nbytes for layer in cache.layers for state in recurrent_states(layer))
    assert reduction.report.kv_bytes_dense * 2 == full.report.kv_bytes_dense + recurrent


def recurrent_states(layer):
    states = getattr(layer, "recurrent_states", None) or {}
    return states.values() if isinstance(states, dict) else [states]


@families("qwen2_5_vl", "llava_onevision")
def test_inference_mode(name):
    with reduce_clips(model(name), method(name)):
        expected = answer(model(name), inputs(name)).tolist()
        with torch.inference_mode():
            assert answer(model(name), inputs(name)).tolist() == expected
