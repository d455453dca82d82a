"""Stand-ins for what the pretrained yardstick fetches: a tower, a language model and stamps, all of them small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.pretrained.halves import IMAGE_TOKEN, LAYER
from training.pretrained.scene import Grounds

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE_TOKEN]
FOLDERS = {"animals/birds": "bird", "animals/fish": "fish", "food/fruit": "fruit", "vehicles": "car"}
NAMES = ("owl", "duck", "crow")
PLAIN = {"red": (220, 20, 20), "green": (20, 160, 40), "blue": (30, 60, 220), "white": (250, 250, 250)}


def tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte."""
    bytes_ = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = Tokenizer(models.BPE(vocab=bytes_, merges=[]))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|im_end|>")


def save_halves(folder: Path) -> tuple[Path, Path]:
    """Folders of a tower and a language model."""
    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tower = Dinov2Model(
            Dinov2Config(
                hidden_size=16,
                num_hidden_layers=LAYER + 1,
                num_attention_heads=2,
                mlp_ratio=2,
                patch_size=14,
                image_size=56,
                use_mask_token=False,
            )
        )
        language = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
            )
        )
    tower.save_pretrained(folder / "tower")
    language.save_pretrained(folder / "language")
    words.save_pretrained(folder / "language")
    return folder / "tower", folder / "language"


def save_stamps(folder: Path) -> Path:
    """Twelve stamps in each of four groups, every fourth with a name of one word."""
    for place, (where, word) in enumerate(FOLDERS.items()):
        (folder / where).mkdir(parents=True)
        for number in range(12):
            colour = list(PLAIN.values())[(place + number) % len(PLAIN)]
            picture = np.zeros((60 + number, 80, 4), np.uint8)
            picture[4:-4, 4:-4] = (*colour, 255)
            file = folder / where / f"{word}{number}"
            Image.fromarray(picture).save(file.with_suffix(".png"))
            named = place == 0 and number % 4 == 0
            caption = f"An {NAMES[number // 4]}." if named else f"A small {word} of kind {number}."
            file.with_suffix(".txt").write_text(f"{caption}\nde.utf8=Ein Ding.\n", encoding="utf-8")
    return folder


def grounds() -> Grounds:
    """A grey clip that grows lighter."""
    return Grounds([np.stack([np.full((192, 192, 3), 90 + number, np.uint8) for number in range(40)])])
