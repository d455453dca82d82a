"""What can be said of the Ray engine without a cluster; `tests/batch` runs it on one."""

from __future__ import annotations

import pytest

from framefusion.core.errors import OptionError
from framefusion.inference.batch import Job, Task
from framefusion.integrations.ray_data import answer_with_ray, shares


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((None, 100, [16], 4), (4, {"num_gpus": 1})),
        ((8, 100, [16], 4), (8, {"num_gpus": 0.5})),
        ((5, 100, [16], 4), (5, {"num_gpus": 0.5})),
        ((None, 100, [16], 0), (1, {"num_cpus": 16})),
        ((3, 100, [16], 0), (3, {"num_cpus": 5})),
        ((3, 100, [8, 8], 0), (3, {"num_cpus": 4})),
        ((4, 100, [2, 1], 0), (4, {"num_cpus": 0.5})),
        ((4, 2, [8], 0), (2, {"num_cpus": 4})),
    ],
)
def test_every_actor_finds_room(asked: tuple, expected: tuple) -> None:
    assert shares(*asked) == expected


@pytest.mark.parametrize("options", [{"device": "auto"}, {"device": "cuda:1"}])
def test_ray_hands_out_the_gpus(options: dict) -> None:
    pytest.importorskip("ray", reason="Ray is not installed, the extra `ray`")
    with pytest.raises(OptionError, match="does not go with Ray"):
        next(answer_with_ray(Job("toy", **options), [Task("a.mp4", ("what?",))]))
