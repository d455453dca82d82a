"""Short digests of what answers: a model's weights, and the code between a question and its answer."""

from __future__ import annotations

import hashlib
import inspect
import json
import marshal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framefusion.core.installed import versions_of
from framefusion.core.ops.raw import raw_bytes

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint

DIGITS = 16
LOOKED_AT = 2**18
# Rooms that only show what was answered; a change there spoils no record. Some of the evaluation makes what is asked.
AFTERWARDS = ("cli", "evaluation", "integrations", "testing")
ASKS = ("answers.py", "calibration.py", "prefill.py", "synthetic_questions")
# Entries of a configuration that say where a checkpoint was and what wrote it, not what it is.
PLACE = ("_name_or_path", "transformers_version")


def of_checkpoint(checkpoint: Checkpoint) -> str:
    """Digest of weights, configuration and processor; of a tensor, up to some 260,000 evenly spaced values.

    Training, merging an adapter or quantising changes every matrix it touches, so a sample sees it.
    """
    digest = hashlib.sha256(_settings(checkpoint).encode())
    for name, tensor in sorted(checkpoint.model.state_dict().items()):
        digest.update(name.encode())
        if hasattr(tensor, "shape"):
            digest.update(_sample(tensor))
    return digest.hexdigest()[:DIGITS]


def versions(method: Method | None = None) -> dict[str, str]:
    """What has to be the same for answers to be the same, as far as a version can say it."""
    found = {"code": _code(), **versions_of("torch", "transformers")}
    if method is not None and not type(method).__module__.startswith("framefusion."):
        found["method"] = _of_class(type(method))
    return found


def _of_class(kind: type) -> str:
    """Digest of the file of a class; of one that was typed into a session, of what Python made of it."""
    try:
        return _digest([Path(inspect.getfile(kind))])
    except (OSError, TypeError):
        functions = (getattr(part, "fget", part) for part in vars(kind).values())
        code = [marshal.dumps(one.__code__) for one in functions if inspect.isfunction(one)]
        return hashlib.sha256(b"".join(code)).hexdigest()[:DIGITS]


@cache
def _code() -> str:
    """Digest of this package's sources, those that only show results left out."""
    home = Path(__file__).parents[1]
    places = {path: path.relative_to(home).parts for path in sorted(home.rglob("*.py"))}
    return _digest([path for path, parts in places.items() if parts[0] not in AFTERWARDS or _asks(*parts)])


def _asks(room: str, *place: str) -> bool:
    return room == "evaluation" and bool(place) and place[0] in ASKS


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:DIGITS]


def _settings(checkpoint: Checkpoint) -> str:
    processor = checkpoint.processor
    parts: list[Any] = [_without_place(checkpoint.model.config.to_dict()), getattr(processor, "chat_template", None)]
    for name in ("image_processor", "video_processor"):
        part = getattr(processor, name, None)
        parts.append(part.to_dict() if part is not None else None)
    return json.dumps(parts, sort_keys=True, default=str)


def _without_place(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {name: _without_place(value) for name, value in settings.items() if name not in PLACE}


def _sample(tensor: Any) -> bytes:
    """Name of the shape and type, and the bytes of evenly spaced values."""
    if hasattr(tensor, "__tensor_flatten__"):  # quantised: numbers and scales
        return b"".join(_sample(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    flat = tensor.detach().reshape(-1)
    step = max(1, flat.numel() // LOOKED_AT)
    values = flat[::step]
    head = f"{tuple(tensor.shape)}{tensor.dtype}".encode()
    return head + raw_bytes(values) if values.numel() else head
