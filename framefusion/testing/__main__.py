"""`python -m framefusion.testing FOLDER`: run the golden cases of a folder, one row each."""

from __future__ import annotations

import argparse
import sys

from framefusion.errors import FrameFusionError
from framefusion.testing.golden import run_folder


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m framefusion.testing", description=__doc__)
    parser.add_argument("folder", help="folder with *_index.json and *_case*.safetensors")
    folder = parser.parse_args(arguments).folder
    failed = total = 0
    try:
        print(f"{'case':<24} {'kind':<12} {'largest difference':>18}  pass")
        for result in run_folder(folder):
            verdict = "not covered" if not result.covered else "yes" if result.passed else "NO"
            print(f"{result.case:<24} {result.kind:<12} {result.difference:>18.2e}  {verdict}", flush=True)
            if result.problem:
                print(f"    {result.problem}")
            total += result.covered
            failed += not result.passed
    except FrameFusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{total - failed} of {total} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
