#!/usr/bin/env bash
# PEFT's prefix tuning is silently ignored by `generate` on transformers 5.24.
#
# peft 0.21.2 hands its learned keys and values to the first step of `generate` as `past_key_values`; transformers 5.24.0
# renamed that input to `cache`, carries an empty cache under the new name, and reads that one. A plain forward of the
# same model uses the prefix, `generate` answers like the base model, and nothing is said.
#
# Seen with both: the forward differs from the base model by 2.81 on its logits, generate by 3.6e-07.
# Exit code 1 if that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip torch==2.13.0
$pip transformers==5.24.0 peft==0.21.2

cat > "$folder/ask.py" <<'PYTHON'
import warnings

warnings.simplefilter("ignore")
import torch
import transformers
from peft import PrefixTuningConfig, TaskType, get_peft_model

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, eos_token_id=None
)
base = transformers.LlamaForCausalLM(config).eval()
for weight in base.parameters():
    if weight.ndim > 1:
        torch.nn.init.normal_(weight, std=0.2)
ids = torch.arange(1, 11)[None]
with torch.no_grad():
    plain = base(input_ids=ids).logits[:, -1]
    tuned = get_peft_model(base, PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4)).eval()
    forward = tuned(input_ids=ids).logits[:, -1]
    told = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    written = tuned.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **told).logits[0]
print("transformers", transformers.__version__)
used = (forward - plain).abs().max().item()
ignored = (written - plain).abs().max().item()
print(f"the forward differs from the base model by {used:.2f}, generate by {ignored:.1e}")
raise SystemExit(not (used > 1e-2 and ignored < 1e-4))
PYTHON

"$folder/venv/bin/python" "$folder/ask.py" || { echo "the behaviour has changed"; exit 1; }
