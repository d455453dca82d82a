"""Positions travel exactly, also beside half precision, and filling twice does no harm."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from framefusion.integrations.vllm import positions


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_offsets_are_exact_in_every_precision(dtype):
    offsets = torch.stack([torch.arange(70_000), torch.arange(70_000) * 200, torch.full((70_000,), 256**3 - 1)])
    rows = torch.randn(70_000, 4).to(dtype)
    values, found = positions.split_offsets(positions.append_offsets(rows, offsets))
    assert torch.equal(found, offsets) and torch.equal(values, rows)


def test_fill_is_what_the_unreduced_prompt_has():
    whole = torch.arange(12).expand(3, 12)
    base = torch.full((3,), 4)
    held = torch.cat([whole[:, :4], positions.disguise(base, 3), whole[:, 10:]], 1)
    offsets = torch.tensor([0, 2, 5]).expand(3, 3)
    slots = torch.tensor([4, 5, 6])
    filled, delta = positions.fill(held, slots, [offsets])
    assert filled[0].tolist() == [0, 1, 2, 3, 4, 6, 9, 10, 11]
    assert delta == 3
    again, _ = positions.fill(filled, slots, [offsets])
    assert torch.equal(again, filled)


def test_fill_goes_on_where_a_chunk_ended():
    held = positions.disguise(torch.zeros(3, dtype=torch.long), 4)
    offsets = torch.tensor([0, 3, 5, 8]).expand(3, 4)
    first, _ = positions.fill(held, torch.tensor([0, 1, 2, 3]), [offsets[:, :2]])
    assert first[0].tolist() == [0, 3, -1, -1]
    second, delta = positions.fill(first, torch.tensor([2, 3]), [offsets[:, 2:]])
    assert second[0].tolist() == [0, 3, 5, 8] and delta == 5


def test_decoding_steps_bring_no_rows():
    held = torch.arange(5).expand(3, 5)
    filled, delta = positions.fill(held, torch.zeros(0, dtype=torch.long), [])
    assert torch.equal(filled, held) and delta == 0


def test_the_unreduced_prompt_is_found_again_behind_another_number():
    """A video from a cache may stand behind more tokens than where it was first seen."""
    pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")
    from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

    from framefusion.integrations.vllm import model, processor
    from framefusion.integrations.vllm.recipe import Recipe
    from framefusion.integrations.vllm.settings import Settings

    recipe = Recipe.write(Settings("uniform", 0.5), (2, 1, 2), False)
    passage = torch.tensor([[7, 9, 9, 8, 9, 9, 6], [0, 1, 1, 0, 1, 1, 0]])
    fields = {
        processor.RECIPE: recipe.pack(),
        processor.PASSAGE: passage,
        processor.ENCODED: torch.ones(2, 1, 1, dtype=torch.uint8),
    }
    place = PlaceholderRange(1, 6, torch.tensor([False, False, True, True, True, False]))
    feature = MultiModalFeatureSpec(
        data={name: SimpleNamespace(data=value) for name, value in fields.items()},
        modality="video",
        identifier="clip",
        mm_position=place,
    )
    tokens, (found,), spans = model.unreduced_prompt([1, 5, 5, 9, 9, 9, 6, 2], [feature])
    assert tokens == [1, 5, 5, 9, 9, 8, 9, 9, 6, 2]
    assert spans == [(3, 8, 3)]
    assert (found.mm_position.offset, found.mm_position.length) == (1, 8)
    assert found.mm_position.is_embed.tolist() == [False, False, True, True, False, True, True, False]
