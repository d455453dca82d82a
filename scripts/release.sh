#!/usr/bin/env bash
# Wheel and sdist in dist/: made in an environment apart, checked by twine, the wheel installed into an empty
# environment, and the demonstration run from outside the clone. Arguments go to the installation of torch, as in
# `scripts/release.sh --extra-index-url ADDRESS` for a build for the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python=${PYTHON:-python3}

"$python" -m venv "$room/tools"
"$room/tools/bin/pip" install --quiet build twine
rm -rf dist
"$room/tools/bin/python" -m build --outdir dist
"$room/tools/bin/twine" check --strict dist/*

"$python" -m venv "$room/empty"
"$room/empty/bin/pip" install --quiet --constraint constraints.txt "$@" torch
"$room/empty/bin/pip" install --quiet --constraint constraints.txt "$@" --no-deps torchvision
"$room/empty/bin/pip" install --quiet --constraint constraints.txt dist/*.whl
"$room/empty/bin/python" scripts/torchvision_on_cpu.py
mkdir "$room/home"
cd "$room/home"
HOME="$room/home" "$room/empty/bin/framefusion" demo
