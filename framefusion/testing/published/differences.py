"""Where the library differs from the recorded functions by choice, by method and name.

What surrounds the functions (positions, newlines, several clips) stands on the methods' pages in docs/methods.
"""

from __future__ import annotations

from collections.abc import Mapping

Differences = Mapping[str, Mapping[str, str]]

CHOICES: Differences = {
    "visionzip": {
        "strict=False": "`keep` tokens, contextual ones as means; strict=True keeps one less and adds the others' mean",
        "keys": "keys of all heads side by side; the code averages them over heads",
    },
    "vispruner": {
        "odd": "a line of odd length is split into halves that differ by one; the code fails",
        "ties": "cosines within 1e-6 of 1 are equal, the token earlier in line leaves; in the code rounding decides",
    },
    "divprune": {
        "ties": "distances within 1e-6 are equal, and the earlier token wins; a token is never picked twice",
    },
    "cdpruner": {
        "theta=0.5": "relevance has an exponential weight unless theta=None; the code takes it as it is",
        "relevance": "the mean cosine with the model's own words, of equal ones 1; the code asks CLIP's text tower",
        "span": "once the picks span all tokens the most relevant ones follow; the code computes NaN",
    },
    "holov": {
        "scale='clip'": "an option: variety is scaled over the clip; scale='crop' is the released code",
        "surplus": "what a crop has no tokens for goes to other crops; the code fills up with zero vectors",
    },
    "vidcom2": {
        "count": "the count is exact: surplus tokens of highest likeness go, or missing ones of lowest come",
    },
    "dycoke": {
        "frames": "the third frame of the last window is pruned, and an odd last frame stays; not so in the code",
    },
    "evs": {
        "keep": "`keep` is given; the code takes 1 - q, whose rounding may leave one token fewer or more",
    },
    "pyramiddrop": {
        "layer": "the score is the attention of the layer before; the code projects queries and keys once more",
    },
    "sparsevlm": {
        "recycle": "clusters count towards the budget, with seven neighbours and weighted means; in the code they come "
        "on top, with as many neighbours as clusters",
    },
    "dart": {
        "budget": "the budget counts the pivots and is met exactly; the code adds them and rounds each share down",
        "order": "pivots from the largest norm down, visual ones first; the code has the order of a Python set",
    },
    "holitom": {
        "strict=False": "a kept token is the mean of what it stands for; strict=True halves it with each one it takes "
        "in, like the code",
    },
    "holitom_outer": {
        "windows": "of windows that save equally much, the last one is the shortest",
        "noise": "density gets no noise; with a single cluster the first place is its centre",
        "groups": "a group keeps at least one token",
    },
    "fastvid": {
        "variant='exact'": "the default: the count is exact and kept tokens merge into nothing; 'llava_onevision' "
        "and 'llava_video' are the published variants",
        "qwen2.5-vl": "not offered: the variant for Qwen2.5-VL gives no tokens of their own to frames that resemble "
        "the next, with a cosine of 0.95 or more",
        "noise": "density gets no noise",
    },
    "prunevid": {
        "groups": "the question keeps at least one token of every group, and clustering leaves at least one",
        "noise": "clustering gets no noise",
    },
    "scissor": {
        "components": "components are exact; the code samples large graphs",
    },
    "sttm": {
        "strict=False": "strict=False differs from the released union, which stops early where a later block overlaps "
        "several earlier cells, from its mean of nodes, and from its border blocks on odd grids, which read the "
        "frame's first block for missing parts; strict=True equals all three",
    },
    "tome": {
        "order": "survivors keep reading order; the code puts unmerged even tokens first, so later blocks pair others",
    },
    "adaptprune": {
        "picks": "a token is never picked twice; the code multiplies its score by nearly zero",
    },
}
