"""Quantise a loaded model, and undo it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import nn

from framefusion.core.errors import OptionError
from framefusion.core.options import checked
from framefusion.engine.model.parts import find_parts
from framefusion.inference.quantization import attention
from framefusion.inference.quantization.cache import new_cache
from framefusion.inference.quantization.kernels import kernel_for, settings_kept
from framefusion.inference.quantization.memory import nested_bytes
from framefusion.inference.quantization.precision import Precision
from framefusion.inference.quantization.replaced_linear import NOTES, StandIns
from framefusion.inference.quantization.rounding import round_trip, stored_bytes
from framefusion.inference.quantization.select import check_groups, linear_layers

if TYPE_CHECKING:
    from torch import Tensor


class Quantised:
    """Few bits at work in a model. Use it as a context manager, or call `remove()`.

    precision: what was asked for; its cache is made by `new_cache`. notes: what a person should know. fast: False where
    a library only unpacks, so that times say nothing about kernels.
    """

    def __init__(self, model: nn.Module, precision: Precision, undoable: bool = True) -> None:
        self.precision = checked("precision", Precision, precision, "write Precision.parse('weights=int8')")
        self.notes: list[str] = []
        self.fast = not precision.simulated
        self._model, self._undoable = model, undoable
        self._weights: list[tuple[nn.Linear, Any]] = []
        self._stand_ins = StandIns()
        self._handles: list[Any] = []
        self._restore_attention: Callable[[], None] | None = None
        try:
            self._attach()
        except BaseException:
            self.remove()
            raise

    def _attach(self) -> None:
        precision, model = self.precision, self._model
        layers = {} if _linear_full(precision) else linear_layers(model, precision.tower)
        if not _linear_full(precision) and not layers:
            raise OptionError("this model has no linear layers to quantise", hint="leave weights and activations at 16")
        self._narrow(layers)
        if precision.activations.simulated:
            hook = _Activations(precision.activations.bits)
            self._handles = [layer.register_forward_pre_hook(hook) for layer in layers.values()]
        if precision.attention is not None:
            self._restore_attention = attention.install(find_parts(model), precision.attention)

    def _narrow(self, layers: dict[str, nn.Linear]) -> None:
        """The weights: rounded, converted where they are, or in layers of a library that stand in."""
        precision = self.precision
        if not precision.weights.full and not precision.weights.simulated and precision.library != "torchao":
            self._replace(layers)
            return
        self._weights = [(layer, layer.weight) for layer in layers.values()]
        if precision.weights.simulated:
            self._round_weights()
        elif not precision.weights.full:
            self._convert_weights()

    def _replace(self, layers: dict[str, nn.Linear]) -> None:
        library = self.precision.library
        self.notes, self.fast = [NOTES[library]], self.fast and library == "bitsandbytes"
        self._stand_ins = StandIns.put(self._model, layers, self.precision)
        if not self._undoable:
            self._stand_ins.forget()

    def _round_weights(self) -> None:
        """Layers that share a weight share the rounded one."""
        precision, rounded = self.precision, {}
        for layer, weight in self._weights:
            if id(weight) not in rounded:
                values = round_trip(weight.detach(), precision.weights.bits, precision.group)
                rounded[id(weight)] = nn.Parameter(values, requires_grad=False)
            layer.weight = rounded[id(weight)]

    def _convert_weights(self) -> None:
        chosen = {id(layer) for layer, _ in self._weights}
        first = self._weights[0][1]
        kernel = kernel_for(self.precision, first.device, first.dtype)
        from torchao.quantization import quantize_  # kernel_for says what to install where there is none

        self.fast, self.notes = self.fast and kernel.fast, [kernel.note] if kernel.note else []
        # Its 8-bit weights have one group per row.
        if self.precision.weights.bits != 8:
            layers = [layer for layer, _ in self._weights]
            check_groups(layers, self.precision.group, "write group=32, or weights=int8")
        with settings_kept():
            quantize_(self._model, kernel.config, filter_fn=lambda module, name: id(module) in chosen)
        if not self._undoable:
            self._weights = []

    @property
    def remarks(self) -> list[str]:
        """The notes, and what a simulation does not do."""
        if not self.precision.simulated:
            return self.notes
        simulated = "what is simulated changes answers and counted bytes, but saves neither time nor memory"
        return [*self.notes, f"{self.precision}: {simulated}"]

    def weight_bytes(self) -> float:
        """Bytes of the model's weights; a simulated width counts as what it stands for, other floats as 16 bits."""
        rounded = set()
        if self.precision.weights.simulated:
            rounded = {id(layer.weight) for layer, _ in self._weights}
        bits, group = self.precision.weights.bits, self.precision.group
        return self._stand_ins.scale_bytes() + sum(
            stored_bytes(weight.numel(), weight.shape[-1], bits, group) if id(weight) in rounded else _plain(weight)
            for weight in self._model.parameters()
        )

    def remove(self) -> None:
        """Restore the model exactly. Safe to call again."""
        for handle in self._handles:
            handle.remove()
        for layer, weight in self._weights:
            layer.weight = weight
            layer.__dict__.pop("extra_repr", None)  # torchao's, which describes its own tensor
        self._stand_ins.remove()
        if self._restore_attention is not None:
            self._restore_attention()
        self._handles, self._weights, self._restore_attention = [], [], None

    def __enter__(self) -> Quantised:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def quantize(model: nn.Module, precision: Precision, *, undoable: bool = True) -> Quantised:
    """Give `model` fewer bits until the returned handle is removed; works beside `framefusion.reduce`.

    model: a transformers vision-language model with floating-point weights, also inside PEFT.
    undoable: keep the full weights for the undo; False frees them, and only a simulation can then be undone.

    Raises OptionError, MissingPackageError or UnsupportedModelError; the model is left as it was.
    """
    return Quantised(model, precision, undoable)


def quantize_for_good(model: nn.Module, precision: Precision) -> Quantised:
    """`quantize` without an undo, after a look whether this model's cache can have that width: nothing is half done."""
    new_cache(model, precision)
    return quantize(model, precision, undoable=False)


class _Activations:
    """Rounds what enters a linear layer, each token with a range of its own."""

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (round_trip(args[0], self.bits), *args[1:])


def _linear_full(precision: Precision) -> bool:
    return precision.weights.full and precision.activations.full


def _plain(weight: Any) -> float:
    if hasattr(weight.data, "__tensor_flatten__") or not weight.is_floating_point():
        return nested_bytes(weight.data)
    return 2.0 * weight.numel()
