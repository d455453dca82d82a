"""One pass of the model over what a stream adds, with the reduction in place for as long as the pass lasts."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from framefusion.core.errors import OptionError
from framefusion.core.method import Method, MethodFacts
from framefusion.core.registry import family_of_config
from framefusion.engine.model.cache_names import cache_in
from framefusion.engine.model.releases import KEPT_LOGITS
from framefusion.inference.reduction import Reduction

if TYPE_CHECKING:
    from torch import Tensor, nn

    from framefusion.core.method import Stage
    from framefusion.engine.model.parts import ModelParts

_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()
STATE = "rope_deltas"


@dataclass(frozen=True)
class _AsItIs(Method):
    """Reads everything."""

    facts = MethodFacts("none", "Nothing", "", "reads everything", "nowhere", budget="")

    def stages(self) -> tuple[Stage, ...]:
        return ()


@dataclass(eq=False)
class Places:
    """Positions of the columns of one pass: given ones first, then one more for every column that is generated.

    first: column of the cache at which the pass begins. table: (P, B, n). then: (B,) position of the next column.
    """

    first: int
    table: Tensor
    then: Tensor

    def at(self, past: int, length: int) -> Tensor:
        """(P, B, length), or (B, length) for one plane, of the columns behind `past` cached ones."""
        start, known = past - self.first, self.table.shape[-1]
        given = self.table[..., start : start + length]
        more = start + length - max(start, known)
        if more > 0:
            after = torch.arange(more) + self.then[:, None] + max(0, start - known)
            given = torch.cat([given, after.expand(self.table.shape[0], -1, -1)], -1)
        return given if given.shape[0] > 1 else given[0]


class Reader:
    """Runs one model for streams, which take turns."""

    def __init__(self, model: nn.Module, parts: ModelParts, processor: Any, method: Method | None) -> None:
        self.model, self.parts, self.processor = model, parts, processor
        if method is not None and not isinstance(method, Method):
            raise OptionError(
                f"a stream takes a method, got {type(method).__name__}",
                hint="write framefusion.stream(model, processor, method=framefusion.FrameFusion(cost=0.3))",
            )
        self.method = method if method is not None else _AsItIs()
        family = family_of_config(parts.config)
        self._frames = family.takes_clips_as_pictures(parts.config)
        with _guard:
            self._lock = _locks.setdefault(parts.decoder, threading.RLock())

    @property
    def reduces(self) -> bool:
        """Whether a method may shorten a window."""
        return bool(self.method.stages())

    def logits(self, count: int) -> dict[str, int]:
        """What keeps a call of the model from computing more logits than the last `count` ones."""
        taken = inspect.signature(type(self.parts.model).forward).parameters
        return next(({name: count} for name in KEPT_LOGITS if name in taken), {})

    @contextmanager
    def turn(self) -> Iterator[object]:
        """The model is reduced within the block, and as it was behind it. Gives what its caches are owned by."""
        with self._lock, torch.no_grad():
            states = [(entry, getattr(entry, STATE)) for entry in self._stateful()]
            reduction = Reduction(self.model, self.method, pictures_are_frames=self._frames, processor=self.processor)
            try:
                with reduction:
                    yield reduction.owner
            finally:
                for entry, state in states:
                    setattr(entry, STATE, state)

    @contextmanager
    def last_inputs(self, count: int) -> Iterator[list[Tensor]]:
        """What the decoder is given for its last `count` columns within the block, (1, count, D) for every call."""
        seen: list[Tensor] = []

        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            seen.append(kwargs["inputs_embeds"][:, -count:].clone())

        handles = [self.parts.decoder.register_forward_pre_hook(hook, with_kwargs=True)] if count else []
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def placed(self, places: Places) -> Iterator[None]:
        """The decoder reads its columns at these positions within the block."""
        for entry in self._stateful():  # of a call before, with other rows
            setattr(entry, STATE, None)

        def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            tokens: Any = kwargs.get("inputs_embeds")
            tokens = tokens if tokens is not None else kwargs.get("input_ids", args[0] if args else None)
            past = int(cache_in(kwargs).get_seq_length())
            kwargs["position_ids"] = places.at(past, tokens.shape[1]).to(tokens.device)
            return args, kwargs

        handle = self.parts.decoder.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
        try:
            yield
        finally:
            handle.remove()

    def _stateful(self) -> list[Any]:
        """Modules that keep positions from one call to the next."""
        return [entry for entry in self.model.modules() if hasattr(entry, STATE)]
