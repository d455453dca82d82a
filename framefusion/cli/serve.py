"""`framefusion serve`: vLLM's own OpenAI-compatible server, reading fewer visual tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from framefusion.cli.options import settings_from


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint, as `vllm serve` takes it.", show_default=False)],
    method: Annotated[str, typer.Option(help="framefusion, evs, uniform, divprune, prumerge or visionzip.")] = (
        "framefusion"
    ),
    keep: Annotated[str, typer.Option(help="Fraction or number of a video's tokens, or `pixels`.")] = "0.3",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of the reduction.")
    ] = None,
) -> None:
    """Serve MODEL through vLLM with the videos of every request reduced. Further options go to `vllm serve`.

    Example: framefusion serve Qwen/Qwen2.5-VL-7B-Instruct --keep 0.3 --port 8000 --max-model-len 32768
    """
    from framefusion.integrations.vllm.command import serve_command, start
    from framefusion.integrations.vllm.settings import read_words

    wanted = read_words({"method": method, "keep": keep, **settings_from(settings or [])})
    start(serve_command(model, wanted, context.args))
