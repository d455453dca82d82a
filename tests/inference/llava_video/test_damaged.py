"""Checkpoints of LLaVA-Video's published format that are incomplete, or of another shape."""

from __future__ import annotations

import pytest

from framefusion.core.errors import CheckpointError
from framefusion.inference.answer.checkpoint import load_checkpoint
from tests.support import damaged, original_llava_video
from tests.support.damaged import setting, without


@pytest.mark.parametrize("part", ["mm_projector.2.bias", "vision_model.encoder.layers.0", "model.layers.1.mlp"])
def test_weights_that_a_llava_video_checkpoint_lacks_are_named(part, tmp_path):
    folder = tmp_path / "model"
    original_llava_video.save(folder)
    for file in folder.glob("*.safetensors"):
        found = damaged.load_file(file)
        kept = {name: weight for name, weight in found.items() if part not in name}
        damaged.save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks"):
        load_checkpoint(str(folder), device="cpu")


SHAPES = {
    "no tower": without("mm_vision_tower"),
    "a tower that is a number": setting("mm_vision_tower", 7),
    "a tower that is a list": setting("mm_vision_tower", ["siglip"]),
    "no way to merge": without("mm_patch_merge_type"),
    "a way to merge that is an object": setting("mm_patch_merge_type", {}),
    "an empty range of grids": setting("image_grid_pinpoints", ""),
    "a range of grids without end": setting("image_grid_pinpoints", "(1x1),...,(99999x99999)"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_llava_video_of_another_shape_is_one_error(name, tmp_path):
    folder = tmp_path / "model"
    original_llava_video.save(folder)
    SHAPES[name](folder)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(str(folder), device="cpu")
    assert error.value.why and error.value.hint
