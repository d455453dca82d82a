"""Read a learned reducer from its folder; what does not fit is refused before memory is taken for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from framefusion.core.adapter import PREFIX, Adapter
from framefusion.core.errors import CheckpointError, FrameFusionError
from framefusion.core.learned import LearnedMethod, Weights
from framefusion.core.model_shape import ModelShape
from framefusion.core.reducer_files import CONFIG, FORMAT, SCALE, WEIGHTS, unpacked
from framefusion.core.registry import method as method_named
from framefusion.core.text import one_line
from framefusion.inference.answer.foreign import AGAIN, reason_of
from framefusion.inference.answer.weight_names import differences, shapes_in

OTHER = "save a reducer with reducer.save(path) or `framefusion train`, and give that folder"
# No model is wider or deeper; beyond, a configuration asks for memory that nothing needs.
WIDEST, DEEPEST = 2**17, 2**12
# A configuration of one method is a few hundred bytes.
LONGEST = 2**20
SHIPPED, FOLDER = "framefusion/", Path(__file__).parent / "shipped"


def load_reducer(path: str | Path) -> LearnedMethod:
    """The learned reducer in a folder that `save` or `framefusion train` wrote.

    Args:
        path: of the folder, or `framefusion/NAME` for one that comes with the package.

    Returns:
        The method with its weights, in evaluation mode, ready for `reduce`.

    Raises:
        CheckpointError: files that are missing, damaged, foreign or of another method.

    Example:
        >>> from framefusion.core.model_shape import ModelShape
        >>> reducer = ff.ATPLLaVA(keep=0.3).untrained(ModelShape("qwen2_5_vl", layers=12, hidden=128, vision=96))
        >>> reducer.save("atp")
        >>> ff.load_reducer("atp").keep
        0.3
    """
    folder = reducer_at(path)
    name = str(path)
    settings = _settings(name, folder)
    with _reading(name, CONFIG):
        shape = _shape(settings["model"])
        found = method_named(settings["method"])
        if not issubclass(found, LearnedMethod):
            raise ValueError(f"{found.facts.title} has nothing to load")
        method = found(**settings["options"])
        scale = float(settings.get("adapter_scale", 1.0))
        if not math.isfinite(scale):
            raise ValueError(f"an adapter cannot have the scale {scale}")
    return _with_weights(name, folder, method, shape, scale)


def reducer_at(path: str | Path) -> Path:
    """The folder of a reducer: that of a shipped one for its name, else the path itself."""
    name = str(path)
    word = name.removeprefix(SHIPPED)
    if name.startswith(SHIPPED) and word.isidentifier() and (FOLDER / word).is_dir():
        return FOLDER / word
    return Path(path)


def _settings(name: str, folder: Path) -> Mapping[str, Any]:
    file = folder / CONFIG
    try:
        plain = all((folder / part).is_file() for part in (CONFIG, WEIGHTS))
    except (OSError, ValueError) as error:  # no name of a file
        raise _refused(name, reason_of(error), OTHER) from error
    if not plain:
        raise _refused(name, f"there is no folder with {CONFIG} and {WEIGHTS} at that path", OTHER)
    with _reading(name, CONFIG):
        if file.stat().st_size > LONGEST:
            raise ValueError("it is far larger than a configuration")
        settings = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or not isinstance(settings.get("options"), dict):
            raise ValueError("it is no configuration of a reducer")
        if settings.get("format") != FORMAT:
            raise ValueError(f"it has format {settings.get('format')!r}, this release reads {FORMAT}")
    return settings


def _shape(given: Any) -> ModelShape:
    shape = ModelShape(**given)
    numbers = {"layers": (shape.layers, DEEPEST), "hidden": (shape.hidden, WIDEST)}
    if shape.vision is not None:
        numbers["vision"] = shape.vision, WIDEST
    for name, (value, most) in numbers.items():
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} of a model cannot be {value!r}")
    if not isinstance(shape.family, str):
        raise ValueError("the family of a model is a word")
    return shape


def _with_weights(name: str, folder: Path, method: LearnedMethod, shape: ModelShape, scale: float) -> LearnedMethod:
    """Names and sizes are compared with the header before a number is read. scale: of an adapter, if there is one."""
    import torch
    from safetensors import safe_open

    with _reading(name, CONFIG), torch.device("meta"):
        module = method.build(shape)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    with _reading(name, WEIGHTS), safe_open(folder / WEIGHTS, framework="pt") as file:
        stored = shapes_in(file)
        scales = {f"{key}{SCALE}": shape[:1] for key, shape in wanted.items() if f"{key}{SCALE}" in stored}
        own = {key: shape for key, shape in stored.items() if not key.startswith(PREFIX)}
        wrong = differences(wanted | scales, own)
        if wrong:
            raise _refused(name, f"{WEIGHTS}: {wrong}", "the two files are not of one reducer; save it again")
        state = unpacked({key: file.get_tensor(key) for key in stored})
        added = {key: state.pop(key) for key in list(state) if key.startswith(PREFIX)}
        adapter = Adapter.of(added, scale) if added else None
    _check_numbers(name, {**module.state_dict(), **{key: torch.empty(0) for key in added}}, state | added)
    with _reading(name, WEIGHTS), torch.random.fork_rng(devices=[]):
        module = method.build(shape)  # with what is computed rather than stored, such as rotary tables
        module.load_state_dict(state, assign=True)
    return replace(method, weights=Weights(module.eval(), shape, adapter))


def _check_numbers(name: str, wanted: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    for key, value in state.items():
        if value.is_floating_point() != wanted[key].is_floating_point():
            raise _refused(name, f"{WEIGHTS}: `{key}` is said to hold {value.dtype}", AGAIN)
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise _refused(name, f"{WEIGHTS}: `{key}` holds numbers that are none", "train it again, at a lower rate")


@contextmanager
def _reading(name: str, part: str) -> Iterator[None]:
    """Around everything that depends on what a file says. Raises CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except FrameFusionError as error:
        raise _refused(name, f"{part}: {error.what}", error.hint or OTHER) from error
    except Exception as error:
        raise _refused(name, f"{part}: {reason_of(error)}", OTHER if part == CONFIG else AGAIN) from error


def _refused(name: str, why: str, hint: str) -> CheckpointError:
    return CheckpointError(f"cannot load the reducer `{one_line(name)}`", one_line(why), hint)
