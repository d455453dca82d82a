"""`framefusion serve`: the OpenAI-compatible server of vLLM or of transformers, reading fewer visual tokens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from framefusion.cli.console import quiet_libraries
from framefusion.cli.options import build_recommended, settings_from
from framefusion.core.errors import OptionError
from framefusion.core.options import Count, OneOf, Option, Share, checked
from framefusion.inference.tiny import place_of

if TYPE_CHECKING:
    from framefusion.core.method import Method

DEFAULT = "0.3"
VLLM, TRANSFORMERS = "vllm", "transformers"


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint, as the engine takes it.", show_default=False)],
    engine: Annotated[str, typer.Option(help="vllm, or transformers for any method at any layer.")] = VLLM,
    method: Annotated[
        str | None,
        typer.Option(
            help="vllm: framefusion (default), evs, uniform, temporal_ward, divprune, cdpruner, prumerge, visionzip or "
            "pixel_dedup. transformers: any.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Fraction or number of visual tokens; with vllm also `pixels`.  \\[default: 0.3]", show_default=False
        ),
    ] = None,
    cost: Annotated[
        str | None,
        typer.Option(help="Equivalent cost; with vllm the fraction kept, because every layer reads the same tokens."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="With transformers: frames of a video, at most.  \\[default: 64]", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, such as `pictures=divprune`."),
    ] = None,
) -> None:
    """Serve MODEL with the visual tokens of every request reduced. Further options go to the engine's own server.

    Example: framefusion serve Qwen/Qwen2.5-VL-7B-Instruct --keep 0.3 --port 8000 --max-model-len 32768
    """
    checked("--engine", Annotated[str, OneOf(VLLM, TRANSFORMERS)], engine)
    budget = _budget(keep, cost)
    if engine == TRANSFORMERS:
        asked = [f"{key}={word}" for key, word in (("keep", keep), ("cost", cost)) if word is not None]
        chosen = build_recommended(method, None if asked else float(DEFAULT), [*asked, *(settings or [])], None)
        _serve_with_transformers(model, chosen, 64 if frames is None else frames, context.args)
        return
    from framefusion.integrations.vllm.command import serve_command, start
    from framefusion.integrations.vllm.settings import read_words
    from framefusion.methods.pixel_dedup import PixelDedup

    if frames is not None:
        raise OptionError(
            "--frames is no option of vLLM's server",
            "it samples the frames of a video itself",
            f"""--media-io-kwargs '{{"video": {{"num_frames": {frames}}}}}'""",
        )
    budgets = {"keep": DEFAULT if budget is None else budget}
    if budget is None and method == PixelDedup.facts.name:
        budgets = {}  # what changes is encoded
    wanted = read_words({"method": method or "framefusion", **budgets, **settings_from(settings or [])})
    command = serve_command(place_of(model), wanted, context.args)
    _check_files(model)
    start(command)


def _serve_with_transformers(model: str, method: Method, frames: int, more: list[str]) -> None:
    from framefusion.integrations.transformers_serve.start import start

    checked("--frames", Count, frames, "64 is what `framefusion run` takes")
    _check_files(model)
    start(model, place_of(model), method, frames, more)


def _check_files(model: str) -> None:
    """A server takes minutes to start, and does not see everything that contradicts itself."""
    from framefusion.inference.answer.checkpoint import check_stored

    place = place_of(model)
    if os.path.isdir(place):
        quiet_libraries()
        check_stored(place)


def _budget(keep: str | None, cost: str | None) -> str | None:
    """What is kept, from `--keep` or from `--cost`, None where neither says. Raises OptionError."""
    if cost is None:
        return keep
    if keep is not None:
        raise OptionError("--keep and --cost both set what is kept", hint="give one of them")
    Option.of("--cost", Share, hint="0.3 reads 30 % of every video's tokens; --keep also takes numbers").read(cost)
    return cost
