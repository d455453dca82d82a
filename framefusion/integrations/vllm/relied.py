"""Everything in vLLM that the plugin relies on, in one list, and whether a release still has it.

What the plugin imports, which classes it builds on and which of their methods it calls are read from the plugin's own
source, so nothing can be forgotten. What it reaches in other ways is written down here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from framefusion.integrations.vllm.families import FAMILIES, ROOM, Served
from framefusion.integrations.vllm.release import Found, Release

MODELS = "vllm.model_executor.models"
PROCESSING = "vllm.multimodal.processing"
INPUTS = "vllm.multimodal.inputs"
RUNNER = "vllm.v1.worker.gpu_model_runner"
PRUNER = "vllm.v1.worker.gpu.model_states.mm_pruning"
SEQUENCE_TOWERS = (
    f"{MODELS}.qwen2_vl:Qwen2VisionTransformer",
    f"{MODELS}.qwen2_5_vl:Qwen2_5_VisionTransformer",
    f"{MODELS}.qwen3_vl:Qwen3_VisionTransformer",
    f"{MODELS}.glm4_1v:Glm4vVisionTransformer",
)
ALL_STATES = ("return_all_hidden_states",)
RECOMPUTED = ("input_ids", "multimodal_embeddings", "mrope_positions", "num_computed_tokens")


@dataclass(frozen=True)
class Call:
    """How a function is called. by_place: arguments by position; by_name: by keyword; same: their names, if they must
    be those, because vLLM calls ours in the place of its own."""

    by_place: int = 0
    by_name: tuple[str, ...] = ()
    same: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Relied:
    """One thing. subject: what it is for, in the words of the report.

    place: "module:name", "module:Class.attribute" or "module".
    under: "module:Class" that a class must descend from.
    calls: how it is called. asks: methods of ours that its module must call, with these keywords where there are any.
    leads: "module:Class" that an architecture of the registry must name.
    says: names of fields that its module must know.
    """

    subject: str
    place: str
    under: str = ""
    calls: tuple[Call, ...] = ()
    asks: tuple[tuple[str, tuple[str, ...]], ...] = ()
    leads: str = ""
    says: tuple[str, ...] = ()


REACHED = (
    Relied("start", "vllm.plugins:load_general_plugins"),
    Relied("start", "vllm.entrypoints.cli.main"),
    Relied("start", "vllm.entrypoints.openai.api_server"),
    *(
        Relied("registry", f"vllm:ModelRegistry.{name}", calls=(Call(2, same=("architectures", "model_config")),))
        for name in ("inspect_model_cls", "resolve_model_cls")
    ),
    Relied("registry", "vllm:ModelRegistry.register_model", calls=(Call(2),)),
    Relied(
        "registry",
        "vllm.multimodal:MULTIMODAL_REGISTRY.register_processor",
        calls=(Call(1, ("info", "dummy_inputs")),),
    ),
    *(Relied("configuration", f"vllm.config:ModelConfig.{name}") for name in ("hf_config", "multimodal_config")),
    Relied("configuration", "vllm.config:ModelConfig.model_impl"),
    Relied("configuration", "vllm.config:VllmConfig.model_config"),
    Relied("configuration", "vllm.config:VllmConfig.speculative_config"),
    Relied("configuration", "vllm.config:ParallelConfig.pipeline_parallel_size"),
    Relied("configuration", "vllm.config:ParallelConfig.tensor_parallel_size"),
    Relied("configuration", "vllm.config.multimodal:MultiModalConfig.video_pruning_rate"),
    Relied("configuration", "vllm.config.multimodal:MultiModalConfig.is_multimodal_pruning_enabled", calls=(Call(),)),
    Relied("fields", f"{INPUTS}:MultiModalFieldElem.data"),
    Relied("fields", f"{INPUTS}:MultiModalFieldElem.field"),
    Relied("fields", f"{INPUTS}:MultiModalBatchedField.keep_on_cpu"),
    *(Relied("fields", f"{INPUTS}:PlaceholderRange.{name}") for name in ("offset", "length", "is_embed")),
    *(Relied("fields", f"{INPUTS}:MultiModalFeatureSpec.{name}") for name in ("data", "modality", "mm_position")),
    Relied("fields", f"{PROCESSING}:PromptUpdateDetails.full"),
    Relied("fields", f"{PROCESSING}:PromptUpdateDetails.is_embed"),
    Relied("runners", "vllm.platforms:current_platform.is_cpu", calls=(Call(),)),
    Relied("runners", "vllm.v1.worker.cpu_model_runner:CPUModelRunner", under=f"{RUNNER}:GPUModelRunner"),
    Relied("runners", f"{RUNNER}:GPUModelRunner.is_multimodal_pruning_enabled"),
    Relied("runners", f"{MODELS}.interfaces:supports_multimodal_pruning", calls=(Call(1),)),
    Relied("runners", RUNNER, asks=(("recompute_mrope_positions", RECOMPUTED), ("get_mrope_input_positions", ()))),
    Relied("runners", PRUNER, asks=(("recompute_mrope_positions", RECOMPUTED),)),
    Relied("runners", "vllm.v1.worker.gpu.mm.rope", asks=(("get_mrope_input_positions", ()),)),
    Relied("tower", "vllm.model_executor.layers.attention.mm_encoder_attention:MMEncoderAttention.scale"),
    Relied("tower", "vllm.model_executor.layers.attention.mm_encoder_attention:MMEncoderAttention.num_heads"),
    Relied("tower", "vllm.model_executor.layers.attention.mm_encoder_attention:MMEncoderAttention.attn_backend"),
    Relied("configuration", "vllm.config.multimodal:MultiModalConfig.mm_encoder_tp_mode"),
    Relied("configuration", "vllm.config:CompilationConfig.compile_mm_encoder"),
    *(
        Relied("tower", f"{tower}.{name}", calls=(call,) if call else ())
        for tower in SEQUENCE_TOWERS
        for name, call in (
            ("forward", Call(1, ("grid_thw", "encoder_metadata"))),
            ("prepare_encoder_metadata", Call(1)),
            ("spatial_merge_size", None),
        )
    ),
    Relied("tower", f"{MODELS}.siglip:SiglipEncoder.forward", calls=(Call(0, ("inputs_embeds", *ALL_STATES)),)),
    Relied("tower", f"{MODELS}.clip:CLIPEncoder.forward", calls=(Call(0, ("inputs_embeds", *ALL_STATES)),)),
    Relied("tower", f"{MODELS}.interns1_vit:InternS1VisionEncoder.forward", calls=(Call(0, ("inputs_embeds",)),)),
    *(
        Relied("fields", f"{MODELS}.{module}", says=names)
        for module, names in (
            ("qwen2_5_vl", ("video_grid_thw", "image_grid_thw", "second_per_grid_ts")),
            ("qwen3_vl", ("video_grid_thw", "image_grid_thw")),
            ("llava_onevision", ("pixel_values_videos", "pixel_values", "image_sizes")),
            ("interns1", ("video_num_patches", "image_num_patches", "pixel_values")),
        )
    ),
    Relied("metrics", "vllm.v1.metrics.prometheus:get_prometheus_registry"),
    Relied("metrics", f"{PROCESSING}.processor:MultiModalProcessingResult.prompt_updates"),
)

ROLES = {
    "MultiModalProcessor": f"{PROCESSING}:BaseMultiModalProcessor",
    "ProcessingInfo": f"{PROCESSING}:BaseProcessingInfo",
    "DummyInputsBuilder": f"{PROCESSING}:BaseDummyInputsBuilder",
}


@cache
def own() -> Release:
    """The plugin's own source."""
    return Release.open(Path(__file__).parents[3], "framefusion")


@cache
def everything() -> tuple[Relied, ...]:
    """The whole list, each thing once."""
    found = [*REACHED]
    for module in sorted(_rooms()):
        found += _imported(module)
    for architecture, served in FAMILIES.items():
        found += of_family(architecture, served)
    return tuple(dict.fromkeys(found))


def of_family(architecture: str, served: Served) -> Iterator[Relied]:
    """What one architecture relies on beyond what is imported for it."""
    module, _, _ = served.model.partition(":")
    yield Relied(architecture, f"{MODELS}.registry", leads=f"{architecture} {served.stock}")
    yield Relied(architecture, served.stock, under=f"{MODELS}.interfaces:SupportsMultiModal")
    yield Relied(architecture, f"{served.stock}.{served.text_model}")
    yield Relied(architecture, f"{served.stock}.config")
    if served.tower_scores:
        yield Relied(architecture, f"{served.stock}.vision_tower")
    tree = own().tree(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef):
            yield from _of_class(Found(module, node.name, node))


def _of_class(ours: Found) -> Iterator[Relied]:
    """What a class of the plugin asks of the class of vLLM that it stands in front of."""
    family = own().ancestry(ours)
    subject = ours.module.rpartition(".")[2]
    for stock in dict.fromkeys(base for one in family for base in _stock_bases(one)):
        for place, one in enumerate(family):
            # What a later class of ours has is no business of vLLM's.
            later = {method.name for after in family[place + 1 :] for method in _methods(after)}
            for method in _methods(one):
                for name, call in _passed_on(method):
                    if name not in later:
                        yield Relied(subject, f"{stock}.{name}", calls=(call,) if call else ())


def _methods(ours: Found) -> list[ast.FunctionDef]:
    body = ours.node.body if isinstance(ours.node, ast.ClassDef) else []
    return [node for node in body if isinstance(node, ast.FunctionDef)]


def _passed_on(method: ast.FunctionDef) -> Iterator[tuple[str, Call | None]]:
    """Calls of `super()` in a method, also through a variable that says it is `stock`; None passes on what it gets."""
    for node in ast.walk(method):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)) or node.func.attr == "__init__":
            continue
        owner, name = node.func.value, node.func.attr
        named = isinstance(owner, ast.Name) and owner.id == "stock"
        direct = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
        if named or direct:
            stands_in = name == method.name and not method.args.vararg and not method.args.kwarg
            given = tuple(keyword.arg for keyword in node.keywords if keyword.arg)
            starred = any(isinstance(one, ast.Starred) for one in node.args) or len(given) < len(node.keywords)
            same = tuple(argument.arg for argument in method.args.args[1:]) if stands_in else None
            yield name, None if starred else Call(len(node.args), given, same)


def _rooms() -> set[str]:
    prefix = ROOM.replace(".", "/") + "/"
    return {path.removesuffix(".py").replace("/", ".") for path in own().files if path.startswith(prefix)}


def _imported(module: str) -> Iterator[Relied]:
    tree = own().tree(module)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
            for alias in node.names:
                role = next((base for suffix, base in ROLES.items() if alias.name.endswith(suffix)), "")
                yield Relied("imports", f"{node.module}:{alias.name}", under=role)


def _stock_bases(ours: Found) -> Iterator[str]:
    """Classes of vLLM among the bases of one of ours."""
    for base in ours.node.bases if isinstance(ours.node, ast.ClassDef) else ():
        found = own().find(ours.module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and found.node is None and found.module.startswith("vllm"):
            yield f"{found.module}:{found.name}"
