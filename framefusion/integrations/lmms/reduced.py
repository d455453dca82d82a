"""What our classes add to a model class of lmms-eval."""

from __future__ import annotations

import os
import sys
from typing import Any

from framefusion.core.text import one_line
from framefusion.inference.quantization.apply import Quantised, quantize_for_good
from framefusion.inference.quantization.attention import check_rows
from framefusion.inference.quantization.precision import Precision
from framefusion.inference.reduction import reduce
from framefusion.integrations.lmms.meter import Measured, Meter, summary
from framefusion.integrations.lmms.options import parameters, precision_of, split
from framefusion.integrations.lmms.video_processor import VideoProcessor


class Reduced:
    """Stands before a model class of lmms-eval: quantises and reduces its model, and logs what that saved.

    Takes the arguments of that class, and `method` (a name, or "dense"), `cost` or `keep` (the budget), any option of
    the method beside them, and `quantize` (see `precision_of`). They belong in `--model_args`, because lmms-eval's
    response cache tells runs apart by it.
    """

    _meter: Meter | None = None
    # Attributes of the wrapped class: its processor, and the frames it should read of a video.
    reads: tuple[str, str] | None = None

    def __init__(self, **arguments: Any) -> None:
        bases = type(self).__mro__
        theirs = parameters(bases[bases.index(Reduced) + 1 :])
        precision = precision_of(arguments.pop("quantize", None))
        method, rest = split(arguments, theirs)
        check_rows([precision], int(rest.get("batch_size", 1)))
        # Some wrappers leave it empty for a single process, which transformers 5 refuses.
        if theirs.get("device_map") == "" and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            rest.setdefault("device_map", rest.get("device", theirs.get("device")))
        super().__init__(**rest)
        self.quantised: Quantised = quantize_for_good(self.model, precision or Precision())
        for message in self.quantised.remarks:
            sys.stderr.write(f"{one_line(message)}\n")
        self.reduction = reduce(self.model, method) if method is not None else None
        self._meter = Meter(self.reduction, precision)
        if self.reads is not None:
            processor, frames = self.reads
            setattr(self, processor, VideoProcessor(getattr(self, processor), int(getattr(self, frames))))

    @property
    def model(self) -> Any:
        model = super().model  # type: ignore[misc]
        return model if self._meter is None else Measured(model, self._meter)

    @property
    def setup(self) -> dict[str, Any]:
        """What a reader of the numbers should know: dtype, whether times mean anything, and notes."""
        quantised = self.quantised
        dtype = str(self.model.dtype).removeprefix("torch.")
        return {"dtype": dtype, "fast": quantised.fast, "notes": quantised.notes}

    def generate_until(self, requests: Any) -> Any:
        return self._logged(super().generate_until, requests)  # type: ignore[misc]

    def generate_until_multi_round(self, requests: Any) -> Any:
        return self._logged(super().generate_until_multi_round, requests)  # type: ignore[misc]

    def _logged(self, answer: Any, requests: Any) -> Any:
        from lmms_eval.models.model_utils.gen_metrics import get_logged_metrics_history, log_metrics

        assert self._meter is not None
        self._meter.clear()
        before = len(get_logged_metrics_history())
        answers = answer(requests)
        measurements, failures = self._meter.measurements, self._meter.failures
        if failures and not measurements:
            raise failures[0]
        # The older wrappers log no totals; the others have theirs in the history already.
        silent = len(get_logged_metrics_history()) == before
        tokens = sum(one.new_tokens for one in measurements) if silent else 0
        seconds = sum(one.elapsed_s for one in measurements) if silent else 0.0
        numbers = summary(measurements, self.quantised.weight_bytes(), len(failures))
        log_metrics(seconds, tokens, tokens / seconds if seconds else 0.0, numbers)
        return answers
