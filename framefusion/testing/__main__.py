"""`python -m framefusion.testing FOLDER`: run the golden cases of a folder, one row each.

Exits with 1 if a case fails, that is on any difference that is not declared. What differs by choice is listed by name.
"""

from __future__ import annotations

import argparse
import sys

from framefusion.core.errors import FrameFusionError
from framefusion.testing.findings import Result
from framefusion.testing.golden import run_folder
from framefusion.testing.published.differences import CHOICES


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m framefusion.testing", description=__doc__)
    parser.add_argument("folder", help="folder with *_index.json and *_case*.safetensors, or methods/index.json")
    folder = parser.parse_args(arguments).folder
    results: list[Result] = []
    try:
        print(f"{'case':<24} {'kind':<12} {'largest difference':>18}  pass")
        for result in run_folder(folder):
            verdict = "not covered" if not result.covered else "yes" if result.passed else "NO"
            print(f"{result.case:<24} {result.kind:<12} {result.difference:>18.2e}  {verdict}", flush=True)
            if result.problem:
                print(f"    {result.problem}")
            results.append(result)
    except FrameFusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in choices_of(results):
        print(line)
    total, failed = sum(result.covered for result in results), sum(not result.passed for result in results)
    print(f"{total - failed} of {total} passed")
    return 1 if failed else 0


def choices_of(results: list[Result]) -> list[str]:
    """One line for each difference by choice of the methods that ran, and in how many cases it shows."""
    lines = []
    for method, choices in CHOICES.items():
        cases = [dict(result.choices) for result in results if result.case.startswith(f"{method}_case")]
        for name, text in choices.items() if cases else ():
            compared = [case[name] for case in cases if name in case]
            where = f"shows in {sum(compared)} of {len(cases)} cases" if compared else "not met in these cases"
            lines.append(f"  {method}: {name}: {text} ({where})")
    return ["differs by choice:", *lines] if lines else []


if __name__ == "__main__":
    sys.exit(main())
