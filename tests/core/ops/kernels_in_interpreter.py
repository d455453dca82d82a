"""Compares the Triton kernels with the plain operations, in Triton's interpreter, which has to be chosen at its import.

Run by `test_triton.py` in a process of its own.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from unittest.mock import patch

import torch

from framefusion.core.layout import Geometry
from framefusion.core.ops import similarity as plain_similarity
from framefusion.core.ops import weighted as plain_weighted
from framefusion.core.ops.triton import similarity, weighted
from framefusion.core.ops.weighted import Sums

SLACK = 1e-6


def tokens(frames, patches, width, dtype):
    draw = torch.Generator().manual_seed(frames * width)
    return (torch.randn(frames * patches, width, generator=draw) * 3.0).to(dtype)


def earlier_tokens(frames, patches, thinned):
    group = Geometry.grid(frames, 1, patches).patch
    group = group[torch.rand(len(group), generator=torch.Generator().manual_seed(1)) < (0.6 if thinned else 1.1)]
    order = plain_similarity.time_order(group)
    earlier = torch.full_like(order, -1)
    earlier[order[1:]] = torch.where(group[order][1:] == group[order][:-1], order[:-1], -1)
    return earlier


def near(kernel, plain, exact, name):
    """Within twice the plain path's own error, and never worse than what one rounding in float32 costs."""
    scale = exact.abs().max().item()
    allowed = 2.0 * (plain.double() - exact).abs().max().item() + SLACK * scale
    error = (kernel.double() - exact).abs().max().item()
    assert error <= allowed, f"{name}: {error} is more than {allowed}"


def check_similarity(dtype, width, thinned):
    earlier = earlier_tokens(5, 7, thinned)
    hidden = tokens(5, 7, width, dtype)[: len(earlier)]
    has = earlier >= 0
    exact = hidden.double()
    dots, norms = (exact * exact[earlier.clamp(min=0)]).sum(-1), exact.norm(dim=-1)
    ours, theirs = similarity.dots_and_norms(hidden, earlier), plain_similarity.dots_and_norms(hidden, earlier)
    near(ours[0][has], theirs[0][has], dots[has], f"dot {dtype} {width}")
    near(ours[1], theirs[1], norms, f"norm {dtype} {width}")


def check_weighted(dtype, width):
    count, kept = 40, 12
    draw = torch.Generator().manual_seed(width)
    values = tokens(5, 8, width, dtype)
    own, source = torch.arange(kept), torch.arange(kept, count)
    target = torch.randint(0, kept - 2, (count - kept,), generator=draw)
    weight, share = torch.rand(count - kept, generator=draw), torch.rand(kept, generator=draw)
    sums = Sums.of(own, share, target, source, weight)
    matrix = torch.zeros(kept, count, dtype=torch.float64)
    matrix[sums.numbers(), sums.source] = sums.weight.double()
    exact = matrix @ values.double()
    assert weighted.weighted_rows(values, sums).dtype == dtype
    # The interpreter cuts digits off where a GPU rounds to the nearest, so the last rounding is done outside.
    made = weighted.weighted_rows(values, sums, torch.empty(kept, width)).to(dtype)
    assert torch.equal(made[kept - 2 :], values[kept - 2 : kept]), "a survivor that takes nothing in changed"
    near(made, plain_weighted.weighted_rows(values, sums), exact, f"sum {dtype} {width}")


class Launches:
    """Stands for `torch.cuda.device_of` and for a kernel, and notes which tensor's device is current at a launch."""

    def __init__(self):
        self.current, self.seen = None, []

    @contextmanager
    def device_of(self, tensor):
        self.current = tensor
        yield
        self.current = None

    def __getitem__(self, grid):
        return lambda values, *rest, **options: self.seen.append(self.current is values)


def check_devices():
    """A layer's tensors may live on another device than the current one, which is where Triton launches."""
    hidden, sums = tokens(2, 3, 8, torch.float32), Sums.of(*(torch.arange(6), torch.ones(6)), *[torch.arange(0)] * 3)
    for module, kernel, launch in (
        (similarity, "_dots_and_norms", lambda: similarity.dots_and_norms(hidden, torch.arange(6))),
        (weighted, "_weighted_rows", lambda: weighted.weighted_rows(hidden, sums)),
    ):
        launches = Launches()
        with patch.object(module, kernel, launches), patch.object(torch.cuda, "device_of", launches.device_of):
            launch()
        assert launches.seen == [True], f"{kernel} runs on the current device, wherever its tensors are"


def main():
    check_devices()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for width in (5, 64, 1500):
            check_similarity(dtype, width, thinned=False)
            check_similarity(dtype, width, thinned=True)
            check_weighted(dtype, width)


if __name__ == "__main__":
    sys.exit(main())
