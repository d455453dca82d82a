"""`framefusion app`: a page in the browser to drop clips on."""

from __future__ import annotations

from typing import Annotated

import typer

from framefusion.cli.console import note, quiet_libraries, say
from framefusion.cli.opening import check_run, open_checkpoint
from framefusion.cli.options import CostOption, DeviceOption, DtypeOption, NewTokensOption, TrustOption
from framefusion.core.options import Count, Interval, checked
from framefusion.core.registry import RECOMMENDED
from framefusion.inference.tiny import NAME as TINY

HERE = ("127.0.0.1", "localhost", "::1")
QUESTION = "What is happening?"
MIB = 2**20


def app(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Hub id or path of a checkpoint to choose from; may be repeated.  \\[default: {TINY}]",
            show_default=False,
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="What the page is set to at first; see `framefusion methods`.")] = (
        RECOMMENDED
    ),
    cost: CostOption = 0.3,
    frames: Annotated[int, typer.Option(help="Frames to read of a clip, at most and at first.")] = 64,
    max_new_tokens: NewTokensOption = 64,
    upload: Annotated[int, typer.Option(metavar="MIB", help="Size of a clip, at most.")] = 100,
    host: Annotated[str, typer.Option(help="Address to listen on; only this machine reaches the default.")] = HERE[0],
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on.  \\[default: the first free one from 7860]", show_default=False),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch no clips from addresses.")] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Serve a page: drop a video or a picture, ask, and see both answers and what became of every token.

    Example: framefusion app --model Qwen/Qwen2.5-VL-3B-Instruct --model framefusion/tiny
    """
    from framefusion.integrations.app.limits import Limits
    from framefusion.integrations.app.server import check_installed, serving, until_stopped
    from framefusion.integrations.app.settings import Settings

    check_installed()
    check_run(dtype, max_new_tokens, device)
    upload = checked("--upload", Annotated[int, Interval("[1, 4096]")], upload)
    limits = Limits(upload * MIB, checked("--frames", Count, frames), max_new_tokens)
    port = checked("--port", Annotated[int, Interval("[1, 65535]")] | None, port)
    names = list(dict.fromkeys(model or [TINY]))
    usual = Settings(names[0], method, cost, frames, QUESTION).checked(names, frames)
    usual.reduction()
    quiet_libraries()
    checkpoints = {name: open_checkpoint(name, dtype, device, trust_remote_code) for name in names}
    if host not in HERE:
        note(f"whoever reaches {host} can use this page; there is no password")
    with serving(checkpoints, usual, limits, host, port, offline) as address:
        say(address)
        note("stop with Ctrl-C")
        until_stopped()
