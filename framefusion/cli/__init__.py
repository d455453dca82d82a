"""The command `framefusion`: one thin file per subcommand. Data goes to stdout, messages go to stderr."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `framefusion` script."""
    import sys

    from framefusion.cli.app import run_app

    sys.exit(run_app(sys.argv[1:]))
