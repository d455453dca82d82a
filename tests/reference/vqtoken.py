"""VQToken's attention step by step, in lists."""

from __future__ import annotations

from tests.reference.learned_layers import Matrix, Weights, added, layer_norm, linear, multihead


def code_attention(w: Weights, maps: Matrix, means: Matrix, heads: int) -> Matrix:
    """One token for each cluster. maps: of each frame. means: of each cluster."""
    asked = [linear(one, w["to_q_proj.weight"], w["to_q_proj.bias"]) for one in maps]
    return answered(w, [asked[k % len(asked)] for k in range(len(means))], means, heads)


def dynamic_attention(
    w: Weights, maps: Matrix, means: Matrix, heads: int, codes: tuple[Matrix, Matrix] | None = None
) -> Matrix:
    """One token for each cluster. maps, means: of each cluster. codes: the same of finer ones, which are read then."""
    asked = [linear(one, w["to_q_proj.weight"], w["to_q_proj.bias"]) for one in maps]
    read = means
    if codes is not None:
        keyed = [linear(one, w["to_k_proj.weight"], w["to_k_proj.bias"]) for one in codes[0]]
        read = [added(a, b) for a, b in zip(codes[1], keyed, strict=True)]
    found = answered(w, [added(a, b) for a, b in zip(asked, means, strict=True)], read, heads)
    gate = w["gate"]
    return [
        [m + g * v for m, g, v in zip(mean, gate, row, strict=True)] for mean, row in zip(means, found, strict=True)
    ]


def answered(w: Weights, x: Matrix, means: Matrix, heads: int) -> Matrix:
    """What the decoder layers make of the queries `x`, one after the other."""
    number = 0
    while f"transformer_decoder.layers.{number}.norm1.weight" in w:
        x = decoder_layer(w, f"transformer_decoder.layers.{number}", x, means, heads)
        number += 1
    return x


def decoder_layer(w: Weights, layer: str, x: Matrix, means: Matrix, heads: int) -> Matrix:
    def normed(number: int, rows: Matrix) -> Matrix:
        return [layer_norm(row, w[f"{layer}.norm{number}.weight"], w[f"{layer}.norm{number}.bias"]) for row in rows]

    x = normed(1, [added(a, b) for a, b in zip(x, multihead(f"{layer}.self_attn", w, x, x, x, heads), strict=True)])
    cross = multihead(f"{layer}.multihead_attn", w, x, means, means, heads)
    x = normed(2, [added(a, b) for a, b in zip(x, cross, strict=True)])
    out = []
    for row in x:
        wide = [max(0.0, v) for v in linear(row, w[f"{layer}.linear1.weight"], w[f"{layer}.linear1.bias"])]
        out.append(added(row, linear(wide, w[f"{layer}.linear2.weight"], w[f"{layer}.linear2.bias"])))
    return normed(3, out)
