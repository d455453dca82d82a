"""The trained ViT inside a model of which only the tower matters, so that the library's own code encodes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import framefusion as ff

BLOCKS = 9
"""Blocks that run: what follows them in these weights has collapsed to a few directions."""
MERGE = 2
PICTURE, TEXT, WIDTH = 1, 2, 64
"""Ids of the placeholder and of any other token, and width of the text model."""


def build(weights: Path, side: int) -> Any:
    """InternVL with the ViT as its tower, units of 2 x 2 patches, and a small random text model. side: of frames."""
    import transformers as hf

    tower = hf.Dinov2Model.from_pretrained(weights)
    tower.encoder.layer = tower.encoder.layer[:BLOCKS]
    tower.layernorm = nn.Identity()  # hidden states as they leave the block
    units = (side // tower.config.patch_size // MERGE) ** 2
    text = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "vocab_size": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = hf.InternVLConfig(
        vision_config=tower.config,
        text_config={"model_type": "qwen2", **text, **heads},
        image_token_id=PICTURE,
        image_seq_length=units,
        downsample_ratio=1 / MERGE,
    )
    model = hf.InternVLForConditionalGeneration(config)
    model.model.vision_tower = tower
    return model.eval().requires_grad_(False)


@torch.no_grad()
def features(model: Any, pixels: Tensor, method: ff.Method | None) -> tuple[Tensor, float]:
    """Of every patch, (T, units, 4, D), and the share of the patches that a block worked on. pixels: normalised."""
    found: list[Tensor] = []
    units = (pixels.shape[-1] // model.config.vision_config.patch_size // MERGE) ** 2
    ids = torch.cat([torch.full((1, pixels.shape[0] * units), PICTURE), torch.tensor([[TEXT]])], 1)
    inputs = {"input_ids": ids, "pixel_values": pixels, "logits_to_keep": 1}

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0].view(pixels.shape[0], units, MERGE**2, -1).clone())

    handle = model.model.multi_modal_projector.register_forward_pre_hook(note)
    try:
        if method is None:
            model(**inputs)
            return found[0], 1.0
        with ff.reduce(model, method, pictures_are_frames=True) as reduction:
            model(**inputs)
        return found[0], reduction.report.tower_cost
    finally:
        handle.remove()


def fidelity(found: Tensor, dense: Tensor) -> dict[str, float]:
    """Mean and 5th percentile, over the patches, of the cosine to the dense features."""
    cosine = torch.cosine_similarity(found, dense, dim=-1).flatten()
    low = cosine.kthvalue(max(1, round(0.05 * cosine.numel()))).values
    return {"cosine_mean": round(float(cosine.mean()), 5), "cosine_p05": round(float(low), 5)}
