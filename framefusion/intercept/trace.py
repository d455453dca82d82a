"""What a forward pass did, in numbers; the report is made from these."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LayerTrace:
    """One decoder layer in one prefill.

    visual: alive visual tokens of each row when the layer's attention read them. visual_mlp: when its MLP did.
    length, mlp_length: sequence length of the whole batch at the same places, text and padding included.
    kv_bytes: keys and values the layer added for this prompt. kv_bytes_dense: what it adds without reduction.
    """

    visual: list[int] = field(default_factory=list)
    visual_mlp: list[int] = field(default_factory=list)
    length: int = 0
    mlp_length: int = 0
    kv_bytes: int = 0
    kv_bytes_dense: int = 0


@dataclass
class PromptTrace:
    """One prefill of a batch.

    visual: visual tokens of each row as the prompt brought them. length: prompt columns.
    attention: whether each layer has attention at all (recurrent layers keep no keys).
    """

    visual: list[int]
    length: int
    layers: list[LayerTrace]
    moved_points: bool = False
