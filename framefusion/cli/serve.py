"""`framefusion serve`: vLLM's own OpenAI-compatible server, reading fewer visual tokens."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from framefusion.cli.console import quiet_libraries
from framefusion.cli.options import settings_from
from framefusion.core.errors import OptionError
from framefusion.core.options import Option, Share
from framefusion.inference.tiny import place_of

DEFAULT = "0.3"


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint, as `vllm serve` takes it.", show_default=False)],
    method: Annotated[str, typer.Option(help="framefusion, evs, uniform, divprune, prumerge or visionzip.")] = (
        "framefusion"
    ),
    keep: Annotated[
        str | None,
        typer.Option(help="Fraction or number of a video's tokens, or `pixels`.  \\[default: 0.3]", show_default=False),
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(help="Equivalent cost: here the fraction kept, because every layer reads the same tokens."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of the reduction.")
    ] = None,
) -> None:
    """Serve MODEL through vLLM with the videos of every request reduced. Further options go to `vllm serve`.

    Example: framefusion serve Qwen/Qwen2.5-VL-7B-Instruct --keep 0.3 --port 8000 --max-model-len 32768
    """
    from framefusion.inference.answer.checkpoint import check_stored
    from framefusion.integrations.vllm.command import serve_command, start
    from framefusion.integrations.vllm.settings import read_words

    wanted = read_words({"method": method, "keep": _budget(keep, cost), **settings_from(settings or [])})
    command, place = serve_command(place_of(model), wanted, context.args), place_of(model)
    if os.path.isdir(place):
        # A server takes minutes to start, and does not see everything that contradicts itself.
        quiet_libraries()
        check_stored(place)
    start(command)


def _budget(keep: str | None, cost: str | None) -> str:
    """What is kept, from `--keep` or from `--cost`. Raises OptionError."""
    if cost is None:
        return DEFAULT if keep is None else keep
    if keep is not None:
        raise OptionError("--keep and --cost both set what is kept", hint="give one of them")
    Option.of("--cost", Share, hint="0.3 reads 30 % of every video's tokens; --keep also takes numbers").read(cost)
    return cost
