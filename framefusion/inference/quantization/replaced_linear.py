"""Layers of HQQ and bitsandbytes that stand where linear layers were."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from framefusion.inference.quantization.libraries import require
from framefusion.inference.quantization.memory import nested_bytes
from framefusion.inference.quantization.select import check_groups

if TYPE_CHECKING:
    from framefusion.inference.quantization.precision import Precision

NOTES = {
    "hqq": "HQQ unpacks its weights for every product: memory falls, time does not",
    "bitsandbytes": "bitsandbytes has a scale per row in 8 bits, per 64 weights in 4 (NF4); group= is not read",
}


@dataclass
class StandIns:
    """Linear layers that were replaced. places: parent, name there, and the layer that belongs there."""

    made: list[Any] = field(default_factory=list)
    places: list[tuple[nn.Module, str, nn.Linear]] = field(default_factory=list)

    @staticmethod
    def put(model: nn.Module, layers: dict[str, nn.Linear], precision: Precision) -> StandIns:
        """Raises MissingPackageError without the library, OptionError for groups that do not divide a row."""
        library = precision.library
        require("weights", precision.weights, library)
        if library == "hqq":
            check_groups(layers.values(), precision.group, "write group=32")
        make = _hqq if library == "hqq" else _bitsandbytes
        made = {id(layer): make(layer, precision).train(layer.training) for layer in layers.values()}
        places = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if id(child) in made and isinstance(child, nn.Linear)
        ]
        for parent, name, layer in places:
            setattr(parent, name, made[id(layer)])
        return StandIns(list(made.values()), places)

    def scale_bytes(self) -> int:
        """Bytes beside the weights that a library keeps out of `parameters()`."""
        return sum(map(_scales, self.made))

    def forget(self) -> None:
        """Free the layers that were replaced; they cannot be put back then."""
        self.places = []

    def remove(self) -> None:
        for parent, name, layer in self.places:
            setattr(parent, name, layer)
        self.made, self.places = [], []


def _hqq(layer: nn.Linear, precision: Precision) -> Any:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    config = BaseQuantizeConfig(nbits=precision.weights.bits, group_size=precision.group, axis=1)
    # It takes apart what it is given.
    given = copy.copy(layer)
    given._parameters = dict(layer._parameters)
    return HQQLinear(given, config, compute_dtype=layer.weight.dtype, device=str(layer.weight.device))


def _bitsandbytes(layer: nn.Linear, precision: Precision) -> Any:
    from bitsandbytes import nn as bnb

    sizes: dict[str, Any] = {"input_features": layer.in_features, "output_features": layer.out_features}
    sizes["bias"] = layer.bias is not None
    if precision.weights.bits == 8:
        made: Any = bnb.Linear8bitLt(**sizes, has_fp16_weights=False)
    else:
        made = bnb.Linear4bit(**sizes, quant_type="nf4", compute_dtype=layer.weight.dtype)
    made.load_state_dict(layer.state_dict())
    return made.requires_grad_(False).to(layer.weight.device)


def _scales(stand_in: Any) -> int:
    state = getattr(stand_in.weight, "quant_state", None) if hasattr(stand_in, "weight") else None
    kept = getattr(stand_in, "meta", None), getattr(state, "absmax", None)
    rows = 4 * stand_in.out_features if type(stand_in).__name__ == "Linear8bitLt" else 0
    return nested_bytes(list(kept)) + rows
