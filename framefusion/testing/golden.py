"""Run recorded cases of reference implementations: inputs and outputs as tensors, no code.

A folder holds, per kind, a tiny checkpoint, an index `<kind>_index.json` with the options of each case, and one file
`<kind>_case<N>.safetensors` per case. Token ids and lengths must be equal, logits and states within `TOLERANCE` of
`findings.py`. Its folder `methods` holds cases of the functions behind single methods (`published/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import FrameFusionError, LayoutError
from framefusion.testing.findings import Findings, Result
from framefusion.testing.published import has_methods, run_methods

if TYPE_CHECKING:
    from torch import Tensor, nn

NEW_TOKENS = 12
METHODS = "methods"
VIDEO_TYPE = 2


def run_folder(folder: str | Path) -> Iterator[Result]:
    """Every case found in `folder`, in order of kind and number, and then of methods.

    Raises FrameFusionError when there is none.
    """
    folder = Path(folder)
    indices = sorted(folder.glob("*_index.json")) if folder.is_dir() else []
    methods = [place for place in (folder, folder / METHODS) if has_methods(place)]
    if not indices and not methods:
        raise FrameFusionError(
            f"no golden cases in {folder}",
            f"it holds no file named *_index.json and no {METHODS}/index.json",
            "name the folder that holds the indices",
        )
    for index in indices:
        kind = index.name.removesuffix("_index.json")
        model: Any = None
        for options in json.loads(index.read_text()):
            name = f"{kind}_case{options['case']}"
            if kind not in RUNNERS:
                yield Result(name, kind, float("nan"), covered=False)
                continue
            load, check = RUNNERS[kind]
            model = load(folder) if model is None else model
            yield _run(name, kind, check, model, folder, options)
    for place in methods:
        yield from run_methods(place)


def _run(name: str, kind: str, check: Callable, model: Any, folder: Path, options: dict[str, Any]) -> Result:
    from safetensors.torch import load_file

    try:
        return Result(name, kind, *check(model, load_file(folder / f"{name}.safetensors"), options))
    except (FrameFusionError, OSError, KeyError, RuntimeError) as error:
        return Result(name, kind, float("inf"), f"{type(error).__name__}: {error}")


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("cost", "similarity_lower_bound", "ratio_lower_bound")}


def _load_qwen2vl(folder: Path) -> nn.Module:
    from transformers import Qwen2VLForConditionalGeneration

    return Qwen2VLForConditionalGeneration.from_pretrained(
        folder / "qwen2vl_tiny28", dtype=torch.float32, trust_remote_code=False
    ).eval()


def _check_qwen2vl(model: Any, case: dict[str, Tensor], options: dict[str, Any]) -> tuple[float, str]:
    """The published call on a vision-language model, prefill and greedy decoding."""
    from framefusion.inference.published_call import apply_framefusion

    ids = case["input_ids"]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == model.config.video_token_id).int() * VIDEO_TYPE,
        "pixel_values_videos": case["pixel_values_videos"].float(),
        "video_grid_thw": case["video_grid_thw"],
    }
    found = Findings()
    logits, tokens = _generate(model, inputs)
    found.close("unreduced logits", logits, case["unreduced_last_logits"])
    found.equal("unreduced tokens", tokens, case["unreduced_tokens"][0].tolist())
    reduction = apply_framefusion(model, **_options(options), strict=True)
    try:
        logits, tokens = _generate(model, inputs)
    finally:
        reduction.remove()
    found.close("logits", logits, case["last_logits"])
    found.equal("tokens", tokens, case["tokens"][0].tolist())
    _check_lengths(found, reduction.report.layers, case)
    return found.result()


def _generate(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, list[int]]:
    with torch.no_grad():
        out = model.generate(
            **inputs,
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    return out.logits[0], out.sequences[0, inputs["input_ids"].shape[1] :].tolist()


def _check_lengths(found: Findings, layers: Any, case: dict[str, Tensor]) -> None:
    found.equal("attention lengths", [layer.length_in for layer in layers], case["attention_lengths"].tolist())
    found.equal("MLP lengths", [layer.length_out for layer in layers], case["mlp_lengths"].tolist())


def _load_qwen2(folder: Path) -> nn.Module:
    from safetensors.torch import load_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config.from_dict(json.loads((folder / "qwen2_tiny28.config.json").read_text()))
    model = Qwen2ForCausalLM(config)
    weights = load_file(folder / "qwen2_tiny28.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise LayoutError(f"qwen2_tiny28.safetensors does not fit the model: {missing} {unexpected}")
    return model.eval()


def _check_qwen2(model: Any, case: dict[str, Tensor], options: dict[str, Any]) -> tuple[float, str]:
    """A bare text decoder fed with embeddings and told the layout."""
    import framefusion as ff

    found = Findings()
    embeds, layout = case["inputs_embeds"], ff.Layout.from_patch_types(case["patch_type"])
    method = ff.FrameFusion(**_options(options), strict=True)
    with torch.no_grad():
        dense = model.model(inputs_embeds=embeds).last_hidden_state
        with ff.reduce(model, method, layout=layout) as reduction:
            logits = model(inputs_embeds=embeds).logits[:, -1]
            states = model.model(inputs_embeds=embeds).last_hidden_state
    found.close("unreduced states", dense, case["unreduced_last_hidden_state"])
    found.close("states", states[:, reduction.report.surviving_columns[0]], case["last_hidden_state"])
    found.close("logits", logits, case["last_logits"])
    _check_lengths(found, reduction.report.layers, case)
    return found.result()


def _load_clip(folder: Path) -> Any:
    from transformers import CLIPVisionModel

    return CLIPVisionModel.from_pretrained(folder / "clip_tiny24", dtype=torch.float32, trust_remote_code=False).eval()


def _check_prumerge(tower: Any, case: dict[str, Tensor], options: dict[str, Any]) -> tuple[float, str]:
    """PruMerge and PruMerge+ on the recorded tower signals, and the tower on the recorded pixels."""
    from framefusion.core.layout import Geometry
    from framefusion.core.method import Point, VisionSignals
    from framefusion.core.ops.attention import attention_map
    from framefusion.methods.prumerge import PruMerge, PruMergePlus
    from framefusion.testing.signals import make_signals

    found, features = Findings(), case["features"][0]
    with torch.no_grad():
        states = tower(case["pixel_values"].float(), output_hidden_states=True).hidden_states
    found.close("tower features", states[-2][:, 1:], case["features"])
    query, key = case["query"], case["key"]
    visible = torch.ones(1, key.shape[1], dtype=torch.bool)
    score = attention_map(query[:, :1], key, visible, query.shape[-1] ** -0.5)[0, 0, 1:]
    found.close("attention of the class token", score[None], case["cls_attention"])
    vision = VisionSignals("cls", lambda layer, headless: score, lambda layer: key[0, 1:], lambda: features)
    side = round(features.shape[0] ** 0.5)
    signals = make_signals(Geometry.grid(1, side, side), features, Point(0, "before"), vision=vision)
    for name, method in (("prumerge", PruMerge(strict=True)), ("prumerge_plus", PruMergePlus(strict=True))):
        plan = method.decide(signals)
        chosen = method.select(score)
        gatherer = plan.keep[~torch.isin(plan.keep, chosen)]
        order = plan.owner[torch.cat([chosen, gatherer])]
        found.close(name, plan.apply(features)[order][None], case[name])
        found.equal(f"{name} tokens", [plan.kept], [options[f"{name}_tokens"]])
    return found.result()


RUNNERS: dict[str, tuple[Callable[[Path], Any], Callable]] = {
    "qwen2vl": (_load_qwen2vl, _check_qwen2vl),
    "qwen2": (_load_qwen2, _check_qwen2),
    "prumerge": (_load_clip, _check_prumerge),
}
