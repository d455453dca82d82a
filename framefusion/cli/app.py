"""Puts the subcommands together and turns errors into one clear line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from framefusion.cli import (
    analyze,
    bench,
    demo,
    doctor,
    evaluate,
    gradio_app,
    lmms_eval,
    map,
    methods,
    models,
    run,
    serve,
    stream,
    study,
    train,
    view,
)
from framefusion.cli.console import explain, leave_output
from framefusion.core.errors import FrameFusionError

WRONG_USE = 2
INTERRUPTED = 130
UNREAD = 1
# typer carries its own copy of click in some releases; the errors it raises are found through one it exports.
UsageError: Any = typer.BadParameter.__mro__[1]
ClickException: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="framefusion",
    help="Let vision-language models read far fewer visual tokens.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command("run")(run.run)
app.command("view")(view.view)
app.command("app")(gradio_app.app)
app.command("demo")(demo.demo)
app.command("evaluate")(evaluate.evaluate)
app.command("study")(study.study)
app.command("train")(train.train)
app.command("analyze")(analyze.analyze)
app.command("map")(map.map_)
app.command("bench")(bench.bench)
app.command("lmms-eval")(lmms_eval.lmms_eval)
app.command("serve", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve.serve)
app.command("stream", cls=stream.WithPairs)(stream.stream)
app.command("models")(models.models)
app.command("methods")(methods.methods)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from framefusion import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Let vision-language models read far fewer visual tokens."""


def run_app(arguments: list[str]) -> int:
    """Run one command line; returns the exit code.

    0, 2 for anything the user can mend, 130 when interrupted, 1 where nobody reads the output any more.
    """
    try:
        result = app(arguments, standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except FrameFusionError as error:
        explain(error.what + (f": {error.why}" if error.why else ""), error.hint)
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "framefusion"
        if error.format_message():
            explain(error.format_message(), f"see `{command} --help`")
    except ClickException as error:
        explain(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        explain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        leave_output()
        return UNREAD
    except OSError as error:
        # Of a file there is a name; without one it is the output.
        place = "the output" if error.filename is None else str(error.filename)
        explain(f"cannot read or write {place}: {error.strerror or error}", "make room, or send the output elsewhere")
        leave_output()
    return WRONG_USE
