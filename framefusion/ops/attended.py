"""How much attention each token receives, or one clear error where no attention exists yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framefusion.errors import UnsupportedPointError

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.method import Signals


def require_attention(signals: Signals) -> None:
    """Raises UnsupportedPointError when no attention layer ran before this point."""
    if not signals.has_attention:
        raise UnsupportedPointError(
            f"there is no attention to score tokens with {signals.point}",
            "the layers before it are recurrent",
            "choose a later layer",
        )


def last_query(signals: Signals, rows: int = 1) -> Tensor:
    """(N,) attention of the last `rows` query rows in the nearest attention call before this point."""
    require_attention(signals)
    return signals.attention(rows)
