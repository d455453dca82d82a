"""See the query and key of an attention call, and change nothing of it but the weight of merged tokens.

transformers looks attention functions up by name. For as long as a reduction lives, the decoder's configuration names
an entry of this file that remembers the call's query, key and mask for the reduction and then does what was configured
before. The mask registry gets the same name, since a name missing there silently means "no mask".
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from framefusion.core.errors import MissingSignalError
from framefusion.engine import context
from framefusion.engine.attention_call import AttentionCall
from framefusion.engine.weighted_attention import attend_weighted, attend_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "framefusion_"
_lock = threading.Lock()
_users: dict[str, int] = {}


def probe(base: str) -> str:
    """Register the observing twin of attention implementation `base`; returns its name."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = PREFIX + base
    with _lock:
        if not _users.get(name):
            ALL_ATTENTION_FUNCTIONS.register(name, _observing(base))
            ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
        _users[name] = _users.get(name, 0) + 1
    return name


def unprobe(name: str) -> None:
    """Forget the twin once its last user is gone."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    with _lock:
        _users[name] -= 1
        if not _users[name]:
            del _users[name]
            ALL_ATTENTION_FUNCTIONS._global_mapping.pop(name, None)
            ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.pop(name, None)


def _observing(base: str) -> Callable:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    flash = is_flash(base)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        observer, weight = context.tower() or context.forward(), _weight(module)
        if observer is not None:
            scale = kwargs.get("scaling")
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            borders = kwargs.get("cu_seq_lens_q")
            softcap, window = kwargs.get("softcap"), kwargs.get("sliding_window") if flash else None
            seen = AttentionCall(module, query, key, value, attention_mask, scale, softcap, borders, window, weight)
            observer.saw_attention(module, seen)
        function = _eager(module) if base == "eager" else ALL_ATTENTION_FUNCTIONS[base]
        # Flash attention asks the module which kernel to load, by the name in its configuration.
        caller: Any = _Named(module, config=_Named(module.config, _attn_implementation=base)) if flash else module
        run = context.tower()
        if run is not None and run.rows is not None:
            of_rows = partial(attend_whole, flash, partial(function, caller))
            return run.rows.attend(of_rows, module, query, key, value, attention_mask, **kwargs)
        if weight is None:
            return function(caller, query, key, value, attention_mask, **kwargs)
        states = (query, key, value)
        return attend_weighted(base, flash, function, caller, states, attention_mask, weight=weight, **kwargs)

    return attention


def _weight(module: nn.Module) -> Tensor | None:
    """(B, S) what the logits of the keys of this call are raised by; None for a call of the vision tower."""
    if context.tower() is not None:
        return None
    forward = context.forward()
    if forward is not None:
        return forward.weight()
    layer, replayed = context.replayed_in(module)
    return None if replayed is None else replayed.weights.of(layer)


def is_flash(implementation: str | None) -> bool:
    """Whether the attention implementation of this name is a flash kernel, as transformers tells them by name."""
    return implementation is not None and "flash" in implementation


class _Named:
    """An object as it is, but for the attributes given."""

    def __init__(self, inner: Any, **own: Any) -> None:
        self._inner = inner
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _eager(module: nn.Module) -> Callable:
    """The plain attention function of the file that defines the attention module."""
    for cls in type(module).__mro__:
        function = getattr(sys.modules.get(cls.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise MissingSignalError(
        f"the attention of {type(module).__name__} cannot be observed",
        "the file that defines it has no eager attention function, and the model was loaded with that implementation",
        "load the model with attn_implementation='sdpa', or use a method that does not read attention",
    )
