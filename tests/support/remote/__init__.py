"""Tiny checkpoints that bring their own code, as the paper's MiniCPM-V, NVILA and InternVL 2.5 do, and PVC.

The code beside this file is written by this project for its tests. It mimics how each of these models puts its prompt
together and nothing else; that the published code behaves so is not verified here.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from tests.support.tiny import redraw
from tests.support.tiny_family import text_sizes
from tests.support.tiny_words import Words

HERE = Path(__file__).parent
CHAT = ("<|im_start|>", "<image>", "</image>", "<unk>", "<vila/video>", "<img>", "</img>", "<IMG_CONTEXT>")
WORDS = Words(pad="<|endoftext|>", eos="<|im_end|>", others=CHAT)
TEXT = text_sizes(4) | WORDS.ids()
NESTED = TEXT | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}

STAND_INS: dict[str, dict[str, Any]] = {
    "minicpmv": {"file": "modeling_minicpmv", "config": "MiniCPMVConfig", "model": "MiniCPMV", **TEXT},
    "vila": {"file": "modeling_vila", "config": "VILAConfig", "model": "VILAForCausalLM", "llm_cfg": NESTED},
    "internvl_chat": {
        "file": "modeling_internvl_chat",
        "config": "InternVLChatConfig",
        "model": "InternVLChatModel",
        "llm_config": NESTED,
    },
    "pvc_internvl": {
        "file": "modeling_pvc_internvl",
        "beside": "modeling_internvl_chat",
        "config": "PVCInternVLConfig",
        "model": "PVCInternVLModel",
        "llm_config": NESTED,
        "downsample_ratio": 0.25,
    },
}


def save_stand_in(name: str, folder: Path) -> Path:
    """Write a checkpoint of that `model_type` with its code beside its weights."""
    settings = dict(STAND_INS[name])
    file, config, model = (settings.pop(key) for key in ("file", "config", "model"))
    beside = settings.pop("beside", file)
    classes = {"AutoConfig": config, "AutoModel": model, "AutoModelForCausalLM": model}
    settings["auto_map"] = {auto: f"{file}.{kind}" for auto, kind in classes.items()}
    settings |= {"model_type": name, "architectures": [model]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    for code in {file, beside}:
        shutil.copy(HERE / f"{code}.py", folder)
    WORDS.tokenizer().save_pretrained(folder)
    kind = get_class_from_dynamic_module(f"{file}.{model}", str(folder))
    built = kind(kind.config_class.from_pretrained(folder))
    with torch.no_grad():
        for part in built.children():
            if hasattr(part, "generate"):
                redraw(part, 0)
    weights = {name: weight.contiguous() for name, weight in built.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
