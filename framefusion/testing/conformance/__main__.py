"""`python -m framefusion.testing.conformance`: run the contract on every architecture and write what it showed.

Writes the table that `framefusion models` prints, and the page made from it. Names given as arguments are run and
printed, and nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from framefusion.models.table import TABLE, read_table, write_table
from framefusion.testing.conformance.contract import Broken, run
from framefusion.testing.conformance.encoding import encoding
from framefusion.testing.conformance.page import page
from framefusion.testing.conformance.toy import names
from framefusion.testing.conformance.verdicts import verdicts

PAGE = Path("docs/models.md")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m framefusion.testing.conformance", description=__doc__)
    parser.add_argument("families", nargs="*", help="`model_type` of the families to run; all, if none is given")
    wanted = parser.parse_args(arguments).families
    rows, broken = [], 0
    for name, model in names():
        if wanted and name not in wanted:
            continue
        try:
            row = run(name, model)
            if row.supported:
                video, stills = verdicts(name, model)
                row = replace(row, video=video, stills=stills, encoding=encoding(name, model))
        except (Broken, ImportError) as error:
            broken += 1
            print(f"{name:<24} BROKEN   {error}", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        told = " | ".join((row.reason or ", ".join(row.points), row.video, row.stills, row.encoding))
        print(f"{name:<24} {'yes' if row.supported else 'no':<8} {told}", flush=True)
    print(
        f"{sum(row.supported for row in rows)} supported, {sum(not row.supported for row in rows)} not, {broken} broken"
    )
    if broken or wanted:
        return 1 if broken else 0
    write_table(rows)
    PAGE.write_text(page(read_table()), encoding="utf-8")
    print(f"wrote {TABLE.name} and {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
