#!/bin/sh
# transformers 5.20.0 (5.17.0 to 5.19.0 as well), installed with what it requires: every subcommand of its command, also
# "transformers version", imports the chat client at start-up, and that imports the package requests, which neither
# transformers nor huggingface_hub 1.x require. The library itself imports. In 5.21.0 the command works.
# Seen: "library: 5.20.0", "transformers version: No module named 'requests'", "5.21.0: transformers version: 5.21.0"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install transformers==5.20.0 huggingface_hub==1.33.0 typer==0.29.2
library=$(venv/bin/python -c "import transformers; print(transformers.__version__)" 2>/dev/null)
said=$(venv/bin/transformers version 2>&1 | tail -n 1 || true)
echo "library: $library"
echo "transformers version: $said"
venv/bin/pip -q install --no-deps transformers==5.21.0
later=$(venv/bin/transformers version 2>/dev/null | tail -n 1)
echo "5.21.0: transformers version: $later"
[ "$library" = 5.20.0 ] && [ "$later" = 5.21.0 ] || exit 1
case $said in *"No module named 'requests'") ;; *) exit 1 ;; esac
