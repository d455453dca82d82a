"""The command `framefusion`: one thin file per subcommand. Data goes to stdout, messages go to stderr."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `framefusion` script."""
    import io
    import os
    import sys

    from framefusion.cli.app import run_app

    # None where the shell closed it.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the terminal's encoding lacks is spelled out instead of ending the command.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run_app(sys.argv[1:]))
