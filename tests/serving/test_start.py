"""What cannot be served is refused when the engine starts, in words."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from framefusion.core.errors import OptionError, UnsupportedModelError
from framefusion.integrations.vllm import contract
from framefusion.integrations.vllm.families import FAMILIES, REDUCED, UNSERVED

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")


def configuration(architecture: str, settings: Any, **others: Any) -> tuple[list[str], Any]:
    config = SimpleNamespace(architectures=[architecture], visual_reduction=settings)
    return [architecture], SimpleNamespace(hf_config=config, **others)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_families_can_be_served(architecture):
    names, model_config = configuration(architecture, {"method": "divprune", "keep": 0.3, "pictures": True})
    assert contract.check_configuration(names, model_config) == architecture
    assert contract.check_configuration([REDUCED + architecture], model_config) == architecture


def loaded(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_classes_stand_in_front_of_those_of_vllm(architecture):
    """With the processor of the same class; LLaVA's stock registration is a choice between two."""
    from framefusion.integrations.vllm.model import ReducingModel
    from framefusion.integrations.vllm.processor import ReducingProcessor

    ours, stock = loaded(FAMILIES[architecture].model), loaded(FAMILIES[architecture].stock)
    assert issubclass(ours, ReducingModel) and issubclass(ours, stock)
    mine, theirs = (vars(kind)["_processor_factory"] for kind in (ours, stock))
    assert issubclass(mine.processor, ReducingProcessor)
    if isinstance(theirs.processor, type):
        assert issubclass(mine.processor, theirs.processor) and mine.info is theirs.info
    assert mine.dummy_inputs is theirs.dummy_inputs


@pytest.mark.parametrize("architecture", [*UNSERVED, "LlamaForCausalLM"])
def test_another_model_is_refused_with_its_reason(architecture):
    reason = UNSERVED.get(architecture, "the plugin has no adapter for this architecture")
    with pytest.raises(UnsupportedModelError, match=f"{architecture} cannot be reduced") as caught:
        contract.check_configuration(*configuration(architecture, {"keep": 0.3}))
    assert reason in caught.value.why


def test_reasons_are_given_for_architectures_that_vllm_has():
    from vllm import ModelRegistry

    assert {*UNSERVED} <= {*ModelRegistry.get_supported_archs()} and not {*UNSERVED} & {*FAMILIES}


@pytest.mark.parametrize("architecture", [name for name, served in FAMILIES.items() if not served.videos])
def test_nothing_to_reduce(architecture):
    with pytest.raises(OptionError, match="nothing would be reduced") as caught:
        contract.check_configuration(*configuration(architecture, {"keep": 0.3}))
    assert "--set pictures=divprune" in caught.value.hint


def test_pixels_where_no_unit_can_be_left_out():
    for settings in ({"keep": "pixels"}, {"method": "pixel_dedup"}, {"keep": 0.3, "pictures": "pixel_prune"}):
        with pytest.raises(OptionError, match="pixels cannot decide on MiniCPMV4_6"):
            contract.check_configuration(*configuration("MiniCPMV4_6ForConditionalGeneration", settings))


def test_the_refusal_reaches_whoever_starts_an_engine(tmp_path):
    import transformers as hf
    from vllm.engine.arg_utils import EngineArgs

    hf.LlamaConfig(hidden_size=64, num_hidden_layers=1, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    arguments = EngineArgs(str(tmp_path), hf_overrides={"visual_reduction": {"keep": 0.3}}, skip_tokenizer_init=True)
    with pytest.raises(Exception, match="LlamaForCausalLM cannot be reduced in vLLM"):
        arguments.create_model_config()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "fastv"}, "cannot act in a serving engine"),
        ({"keep": 0.0}, "keep must be"),
        ({"keep": "few"}, "keep must be"),
        ({"keep": 0.3, "cost": 0.3}, "no option `cost`"),
        ({"method": "divprune", "strictly": True}, "no option `strictly`"),
        ({"method": "visionzip", "strict": True}, "no place"),
        ({"method": "visionzip", "proportional_attention": True}, "no place"),
        ({"keep": "pixels", "pixel_change": 0}, "pixel_change must be"),
        ("framefusion", "must be a mapping"),
        ({"pictures": True}, "`framefusion` cannot reduce pictures"),
        ({"method": "uniform", "pictures": "pixel_dedup"}, "`pixel_dedup` cannot reduce pictures"),
        ({"method": "uniform", "keep": "pixels", "pictures": True}, "no meaning for pictures"),
        ({"pictures": {"method": "divprune", "pixel_change": 0.1}}, "`pixel_change` is no setting of pictures"),
        ({"pictures": {"method": "cdpruner", "theta": 0.5}}, "no place"),
        ({"pictures": [0.3]}, "pictures must be"),
    ],
)
def test_settings_no_engine_can_follow(settings, words):
    with pytest.raises(OptionError, match=words):
        contract.check_configuration(*configuration("LlavaOnevisionForConditionalGeneration", settings))


def test_tower_scores_where_the_tower_shows_none():
    settings = {"method": "visionzip", "keep": 0.3}
    contract.check_configuration(*configuration("LlavaOnevisionForConditionalGeneration", settings))
    for given in (settings, {"keep": 0.3, "pictures": "visionzip"}):
        with pytest.raises(OptionError, match="visionzip` cannot run on Qwen3VL"):
            contract.check_configuration(*configuration("Qwen3VLForConditionalGeneration", given))


def test_the_transformers_backend():
    with pytest.raises(UnsupportedModelError, match="transformers backend"):
        contract.check_configuration(
            *configuration("Qwen3VLForConditionalGeneration", {"keep": 0.3}, model_impl="transformers")
        )


@pytest.mark.parametrize("release", ["0.31.2", "0.34.0", "1.0.0", "of unknown release"])
def test_untested_releases(monkeypatch, release):
    monkeypatch.setattr(contract, "installed_release", lambda: release)
    with pytest.raises(UnsupportedModelError, match="is not supported"):
        contract.check_release()


def test_a_missing_name(monkeypatch):
    monkeypatch.setattr(contract, "PROCESSOR_NAMES", ("_get_mm_prompt_updates", "_gone_tomorrow"))
    with pytest.raises(UnsupportedModelError, match=r"BaseMultiModalProcessor\._gone_tomorrow"):
        contract.check_names(FAMILIES["InternVLForConditionalGeneration"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"speculative_config": object()}, "speculative decoding"),
        ({"parallel_config": SimpleNamespace(pipeline_parallel_size=2)}, "pipeline parallelism"),
    ],
)
def test_setups_that_positions_do_not_survive(changed, words):
    engine = SimpleNamespace(
        **{
            "model_config": SimpleNamespace(multimodal_config=SimpleNamespace(video_pruning_rate=None)),
            "speculative_config": None,
            "parallel_config": SimpleNamespace(pipeline_parallel_size=1),
            **changed,
        }
    )
    contract.check_engine(engine, three_part_positions=False)
    with pytest.raises(OptionError, match=words):
        contract.check_engine(engine, three_part_positions=True)


def test_pruning_twice():
    engine = SimpleNamespace(model_config=SimpleNamespace(multimodal_config=SimpleNamespace(video_pruning_rate=0.5)))
    with pytest.raises(OptionError, match="own video pruning"):
        contract.check_engine(engine, three_part_positions=False)
