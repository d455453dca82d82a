"""Results that are found again are those of the same numbers and the same setting."""

from __future__ import annotations

import torch

from framefusion.core.ops.recent import Recent


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return given.sum()


def test_the_same_numbers_in_another_tensor_are_computed_once():
    recent, compute = Recent(most=2), Counted()
    given = torch.arange(6.0).view(2, 3)
    assert recent.of(given, 1, compute) == 15.0
    assert recent.of(given.clone(), 1, compute) is recent.of(given.T.contiguous().T, 1, compute)
    assert compute.calls == 1


def test_other_numbers_settings_shapes_and_types_are_computed():
    recent, compute = Recent(most=8), Counted()
    given = torch.zeros(2, 3)
    for other in (given, given + 1, given.T, given.half(), given.bfloat16()):
        recent.of(other, 1, compute)
    recent.of(given, 2, compute)
    assert compute.calls == 6


def test_a_tensor_changed_in_place_is_another():
    recent, given = Recent(most=8), torch.zeros(3)
    assert recent.of(given, 1, torch.sum) == 0.0
    given += 1
    assert recent.of(given, 1, torch.sum) == 3.0


def test_the_result_longest_unasked_is_forgotten():
    recent, compute = Recent(most=2), Counted()
    first, second, third = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    for given in (first, second, first, third, first):
        recent.of(given, 1, compute)
    assert compute.calls == 3
    recent.of(second, 1, compute)
    assert compute.calls == 4
