"""One model in several precisions, one after the other."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from framefusion.evaluation.shared_tower import shared_tower

if TYPE_CHECKING:
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.quantization.precision import Precision


class PrecisionSwitch:
    """Quantises a checkpoint as asked, only where that differs from the last time, and restores it at the end.

    share_tower: within one precision of the tower, run it once for the same pictures, until they are forgotten.
    """

    def __init__(self, checkpoint: Checkpoint, share_tower: bool = False) -> None:
        self.checkpoint = checkpoint
        self.share_tower = share_tower
        self._now: Precision | None = None
        self._model = ExitStack()
        self._tower = ExitStack()
        # Precision of the tower that what is remembered holds for, in a tuple; empty while nothing is remembered.
        self._seen: tuple[Precision | None, ...] = ()

    def to(self, precision: Precision | None) -> Checkpoint:
        """The checkpoint in `precision`; None for as it was loaded. The one returned before is no longer valid."""
        from framefusion.inference.quantization.apply import quantize

        wanted = None if precision is None or precision.without_cache.full else precision.without_cache
        if wanted != self._now:
            self._model.close()
            self._now = None
            if wanted is not None:
                self._model.enter_context(quantize(self.checkpoint.model, wanted))
            self._now = wanted
        self._share(wanted if wanted is not None and wanted.tower else None)
        return self.checkpoint if precision is None else replace(self.checkpoint, precision=precision)

    def forget_pictures(self) -> None:
        """Other pictures follow: what the tower said about these is freed."""
        self._tower.close()
        self._seen = ()

    def _share(self, tower: Precision | None) -> None:
        if self.share_tower and self._seen != (tower,):
            self._tower.close()
            self._tower.enter_context(shared_tower(self.checkpoint.model))
            self._seen = (tower,)

    def __enter__(self) -> PrecisionSwitch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model.close()
        self.forget_pictures()
