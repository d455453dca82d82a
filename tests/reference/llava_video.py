"""How the original LLaVA-Video turns pixels into prompt embeddings, written out plainly from the published weights.

The tower is SigLIP without its last layer, its final norm and its head: the hidden states of the last layer but one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

TOWER = "model.vision_tower.vision_tower.vision_model."


def tower(weights: Mapping[str, Tensor], pixels: Tensor, heads: int) -> Tensor:
    """(pictures, 3, H, W) -> (pictures, P, C)."""

    def w(name: str) -> Tensor:
        return weights[TOWER + name]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w(name + ".weight").T + w(name + ".bias")

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w(name + ".weight"), w(name + ".bias"), 1e-6)

    kernel = w("embeddings.patch_embedding.weight")
    patches = F.conv2d(pixels, kernel, w("embeddings.patch_embedding.bias"), stride=kernel.shape[-1])
    x = patches.flatten(2).transpose(1, 2) + w("embeddings.position_embedding.weight")
    layer = 0
    while f"{TOWER}encoder.layers.{layer}.layer_norm1.weight" in weights:
        at = f"encoder.layers.{layer}."
        y = norm(x, at + "layer_norm1")
        q, k, v = (linear(y, f"{at}self_attn.{n}_proj").unflatten(-1, (heads, -1)).transpose(1, 2) for n in "qkv")
        share = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + linear((share @ v).transpose(1, 2).flatten(2), at + "self_attn.out_proj")
        x = x + linear(F.gelu(linear(norm(x, at + "layer_norm2"), at + "mlp.fc1"), approximate="tanh"), at + "mlp.fc2")
        layer += 1
    return x


def project(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    for number in (0, 2):
        x = x @ weights[f"model.mm_projector.{number}.weight"].T + weights[f"model.mm_projector.{number}.bias"]
        x = F.gelu(x) if number == 0 else x
    return x


def pool(patches: Tensor, mode: str) -> Tensor:
    """One frame's (side, side, D) -> (pooled, pooled, D)."""
    grid = patches.permute(2, 0, 1)[None]
    if mode == "bilinear":
        half = math.ceil(grid.shape[-1] / 2)
        grid = F.interpolate(grid, size=(half, half), mode="bilinear")
    else:
        grid = {"average": F.avg_pool2d, "max": F.max_pool2d}[mode](grid, 2)
    return grid[0].permute(1, 2, 0)


def video_tokens(weights: Mapping[str, Tensor], pixels: Tensor, heads: int, mode: str = "bilinear") -> Tensor:
    """Frames (T, 3, H, W) -> (N, D): row by row, and the newline vector after every row of every frame."""
    newline = weights["model.image_newline"]
    tokens = []
    for frame in project(weights, tower(weights, pixels, heads)):
        side = math.isqrt(frame.shape[0])
        for row in pool(frame.view(side, side, -1), mode):
            tokens += [*row, newline]
    return torch.stack(tokens)


def image_tokens(
    weights: Mapping[str, Tensor], pixels: Tensor, heads: int, size: tuple[int, int], tiles: tuple[int, int], most: int
) -> Tensor:
    """The whole picture and its tiles (1 + n, 3, H, W) -> (N, D).

    size: (height, width) of the image. tiles: rows and columns of tiles. most: tiles' worth of patches at most.
    """
    newline = weights["model.image_newline"]
    features = project(weights, tower(weights, pixels, heads))
    base, rest = features[0], features[1:]
    side = math.isqrt(base.shape[0])
    down, across = tiles
    canvas = torch.empty(down * side, across * side, base.shape[-1])
    for number, tile in enumerate(rest):
        top, left = number // across * side, number % across * side
        canvas[top : top + side, left : left + side] = tile.view(side, side, -1)
    canvas = without_padding(canvas, size)
    height, width = canvas.shape[:2]
    times = math.sqrt(height * width / (most * side**2))
    if times > 1.1:
        grid = canvas.permute(2, 0, 1)[None]
        canvas = F.interpolate(grid, (int(height // times), int(width // times)), mode="bilinear")[0].permute(1, 2, 0)
    tokens = list(base)
    for row in canvas:
        tokens += [*row, newline]
    return torch.stack(tokens)


def without_padding(canvas: Tensor, size: tuple[int, int]) -> Tensor:
    """(rows, columns, D) without the bars that brought an image of (height, width) to the canvas' shape."""
    rows, columns = canvas.shape[:2]
    if size[1] / size[0] > columns / rows:
        bar = (rows - int(size[0] * columns / size[1])) // 2
        return canvas[bar : rows - bar]
    bar = (columns - int(size[1] * rows / size[0])) // 2
    return canvas[:, bar : columns - bar]
