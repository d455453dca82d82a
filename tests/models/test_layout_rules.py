"""Layout rules against the processors and models they describe: tiles, row newlines, time stamps, sound, blocks."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf

import framefusion as ff
from framefusion.core.layout import NEWLINE, PATCH, Geometry, Layout, Placement
from framefusion.core.method import after_attention, before
from framefusion.core.registry import family_of
from framefusion.models.anyres import tile_grid
from framefusion.testing.conformance.contract import Halve
from framefusion.testing.conformance.shrink import name_special_tokens
from framefusion.testing.conformance.toy import build
from tests.support import tiny_tower
from tests.support.tiny import _metadata, build_model, moving_clip, processor, prompt
from tests.support.tiny_family import PATCH as PIXELS_OF_PATCH
from tests.support.tiny_family import text_sizes, tower_sizes
from tests.support.tiny_words import Words

SIDE = 8
SHAPES = [(56, 112), (112, 56), (60, 100), (110, 40), (200, 230), (56, 56)]


def picture(height: int, width: int) -> np.ndarray:
    return moving_clip(frames=1, height=height, width=width, seed=height)[0]


@cache
def llava_next() -> tuple[hf.PreTrainedModel, hf.LlavaNextProcessor]:
    config = hf.LlavaNextConfig(
        text_config=text_sizes(1, model_type="llama") | tiny_tower.NEXT_VIDEO.ids(),
        vision_config=tower_sizes(3, model_type="clip_vision_model", projection_dim=32),
        image_token_index=tiny_tower.NEXT_VIDEO.id("<image>"),
        image_grid_pinpoints=tiny_tower.PINPOINTS,
        image_seq_length=tiny_tower.PATCHES,
    )
    other = tiny_tower.llava_next_video_processor()
    reader = hf.LlavaNextProcessor(
        image_processor=other.image_processor,
        tokenizer=other.tokenizer,
        patch_size=PIXELS_OF_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return hf.LlavaNextForConditionalGeneration(config).eval(), reader


def shown(family: str, height: int, width: int) -> tuple[hf.PreTrainedModel, dict[str, torch.Tensor]]:
    if family == "llava_next":
        model, reader = llava_next()
        return model, dict(reader(text="see <image> what?", images=picture(height, width), return_tensors="pt"))
    return build_model(family, layers=1), prompt(family, [[("image", picture(height, width)), ("text", "what?")]])


@pytest.mark.parametrize("family", ["llava_next", "llava_next_video", "llava_onevision"])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_newlines_are_where_the_model_puts_them(family: str, height: int, width: int) -> None:
    """The model's newline parameter is made unmistakable and looked for in front of its decoder."""
    model, inputs = shown(family, height, width)
    seen: dict[str, torch.Tensor] = {}
    newline = model.model.image_newline
    newline.data.fill_(77.0)
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    found = (seen["inputs_embeds"][0] == 77.0).all(-1).nonzero().flatten().tolist()
    layout = family_of(family).layout(model.config, inputs, inputs["input_ids"])
    ((geometry, placement),) = layout.rows
    assert placement.columns[geometry.kind == NEWLINE].tolist() == found
    assert set(geometry.frame.tolist()) == {0} and len(geometry.patch.unique()) == len(geometry)
    tiles = geometry[(geometry.row >= SIDE) & (geometry.kind == PATCH)]
    rows = int(tiles.row.max()) + 1 - SIDE
    assert len(tiles) == rows * (int(tiles.column.max()) + 1) and rows == len(found)
    assert (geometry.row[geometry.kind == NEWLINE] == SIDE + torch.arange(rows)).all()
    base = geometry[(geometry.row < SIDE)]
    assert len(base) == SIDE * SIDE and int(base.column.max()) == SIDE - 1


def test_many_tiles_are_resized_as_onevision_does() -> None:
    """384 pixels, 27 patches, at most nine tiles: sizes worked out by hand."""
    pinpoints = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
    assert tile_grid((384, 768), pinpoints, 384, 27, 9) == (27, 54)
    assert tile_grid((2304, 2304), pinpoints, 384, 27, 9) == (81, 81)


def test_internvl_tiles_are_pictures() -> None:
    wide = picture(56, 112)
    inputs = processor("internvl")(
        text="see <IMG_CONTEXT> what?",
        images=[wide],
        crop_to_patches=True,
        min_patches=1,
        max_patches=4,
        return_tensors="pt",
    )
    tiles = inputs["pixel_values"].shape[0]
    assert tiles == 3  # two halves and a thumbnail
    config = build_model("internvl", layers=1).config
    ((geometry, placement),) = family_of("internvl").layout(config, inputs, inputs["input_ids"]).rows
    assert placement.columns.tolist() == (inputs["input_ids"][0] == config.image_token_id).nonzero().flatten().tolist()
    assert_stills(geometry, tiles)


def test_smolvlm_tiles_are_pictures() -> None:
    """Its tiles stand in runs of their own, with their row and column written between them."""
    reader = processor("smolvlm")
    inputs = reader(text="<image>what?", images=[[picture(56, 112)]], size={"longest_edge": 112}, return_tensors="pt")
    tiles = inputs["pixel_values"].shape[1]
    assert tiles == 3
    config = build_model("smolvlm", layers=1).config
    ((geometry, placement),) = family_of("smolvlm").layout(config, inputs, inputs["input_ids"]).rows
    assert (placement.columns.diff() > 1).sum() == tiles - 1
    assert_stills(geometry, tiles)


def assert_stills(geometry, count: int) -> None:
    side = tiny_tower.SIDE_OF_TILE
    assert set(geometry.frame.tolist()) == {0}
    assert geometry.clip.tolist() == torch.arange(count).repeat_interleave(side * side).tolist()
    assert geometry.row.tolist() == torch.arange(side).repeat_interleave(side).repeat(count).tolist()
    assert geometry.column.tolist() == torch.arange(side).repeat(side * count).tolist()


def test_qwen3_vl_frames_stand_between_their_time_stamps() -> None:
    inputs = prompt("qwen3_vl", [[("video", moving_clip(frames=6)), ("text", "what?")]])
    config = build_model("qwen3_vl", layers=1).config
    ((geometry, placement),) = family_of("qwen3_vl").layout(config, inputs, inputs["input_ids"]).rows
    frames = int(inputs["video_grid_thw"][0, 0])
    assert frames == 3 and set(geometry.clip.tolist()) == {0}
    gaps = (placement.columns.diff() > 1).nonzero().flatten() + 1
    assert len(gaps) == frames - 1
    assert (geometry.frame.diff().nonzero().flatten() + 1).tolist() == gaps.tolist()


def test_survivors_of_a_gemma_picture_see_each_other() -> None:
    """The mask of a bidirectional block is cut by rows and columns: blocks stay blocks, causal columns causal."""
    model = build_model("gemma3", layers=2)
    inputs = prompt("gemma3", [[("image", picture(56, 56)), ("text", "what?")]])
    seen: dict[str, torch.Tensor] = {}
    attention = model.get_decoder().layers[1].self_attn
    hook = attention.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    with ff.reduce(model, Halve((before(1),))) as reduction, torch.no_grad():
        model(**inputs)
    hook.remove()
    ((geometry, placement),) = reduction.report.layout.rows
    first, left = int(placement.columns[0]), (len(geometry) + 1) // 2
    mask = seen["attention_mask"][0, 0]
    allowed = mask if mask.dtype == torch.bool else mask == 0
    assert allowed.shape[0] == inputs["input_ids"].shape[1] - len(geometry) + left
    block = slice(first, first + left)
    assert allowed[block, block].all()
    assert not allowed[:first, block].any()
    assert not allowed[first + left :, first + left :].triu(1).any()


@pytest.mark.parametrize("family", ["gemma3n", "gemma4"])
def test_the_contract_meets_shared_keys_and_inputs_per_layer(family: str) -> None:
    """Both follow a plan in every row of the table; here is what makes those rows worth something."""
    if family == "gemma3n":
        pytest.importorskip("timm", reason="the tower of Gemma 3n is one of timm")
    decoder = build(family, f"{family.capitalize()}ForConditionalGeneration").get_decoder()
    assert sum(getattr(layer.self_attn, "is_kv_shared_layer", False) for layer in decoder.layers) == 2
    assert decoder.config.hidden_size_per_layer_input > 0


GLM_TOKENS = ("begin_of_image", "end_of_image", "image", "begin_of_video", "end_of_video", "video")
GLM = Words(
    pad="<|endoftext|>",
    eos="<|user|>",
    others=tuple(f"<|{name}|>" for name in GLM_TOKENS),
    named={"image_token": "<|image|>", "video_token": "<|video|>"},
)


def test_glm_frames_stand_between_their_time_stamps() -> None:
    sizes = {"patch_size": PIXELS_OF_PATCH, "temporal_patch_size": 2, "merge_size": 2}
    area = {"shortest_edge": 56 * 56, "longest_edge": 56 * 56 * 64}
    reader = hf.Glm4vProcessor(
        image_processor=hf.Glm4vImageProcessor(**sizes, size=area),
        tokenizer=GLM.tokenizer(),
        video_processor=hf.Glm4vVideoProcessor(**sizes, size=area),
    )
    clip = moving_clip(frames=6)
    inputs = reader(
        text="<|begin_of_video|><|video|><|end_of_video|>what?",
        videos=[clip],
        video_metadata=[_metadata(clip)],
        do_sample_frames=False,
        return_tensors="pt",
    )
    config = SimpleNamespace(
        image_token_id=GLM.id("<|image|>"),
        video_token_id=GLM.id("<|video|>"),
        vision_config=SimpleNamespace(spatial_merge_size=2),
    )
    ids = inputs["input_ids"]
    ((geometry, placement),) = family_of("glm4v").layout(config, inputs, ids).rows
    frames, height, width = (inputs["video_grid_thw"][0] // torch.tensor([1, 2, 2])).tolist()
    assert placement.columns.tolist() == (ids[0] == config.image_token_id).nonzero().flatten().tolist()
    assert geometry.frame.tolist() == torch.arange(frames).repeat_interleave(height * width).tolist()
    assert (placement.columns.diff() > 1).sum() == frames - 1
    assert set(geometry.clip.tolist()) == {0}


@pytest.mark.parametrize("family", ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker"])
def test_sound_inside_a_clip_is_left_alone(family: str) -> None:
    """Omni models may put the sound of every second between the frames of a clip."""
    config = hf.CONFIG_MAPPING[family]()
    name_special_tokens(config)
    image, video, audio = config.image_token_id, config.video_token_id, config.audio_token_id
    assert len({image, video, audio}) == 3
    merge = config.vision_config.spatial_merge_size
    row = [9, *[video] * 4, *[audio] * 5, *[video] * 4, *[audio] * 3, 8, *[image] * 4]
    inputs = {
        "video_grid_thw": torch.tensor([[2, 2 * merge, 2 * merge]]),
        "image_grid_thw": torch.tensor([[1, 2 * merge, 2 * merge]]),
    }
    ids = torch.tensor([row])
    ((geometry, placement),) = family_of(family).layout(config, inputs, ids).rows
    assert not (ids[0, placement.columns] == audio).any()
    assert geometry.clip.tolist() == [0] * 8 + [1] * 4
    assert geometry.frame.tolist() == [0] * 4 + [1] * 4 + [0] * 4


def test_grids_are_read_for_families_without_a_file() -> None:
    config = SimpleNamespace(image_token_id=7, vision_config=SimpleNamespace(spatial_merge_size=2))
    inputs = {"image_grid_thw": torch.tensor([[1, 4, 6]])}
    ids = torch.tensor([[1, *[7] * 6, 2]])
    ((geometry, _),) = family_of("nobody_knows").layout(config, inputs, ids).rows
    assert geometry.row.tolist() == [0, 0, 0, 1, 1, 1] and geometry.column.tolist() == [0, 1, 2] * 2
    ((run, _),) = family_of("nobody_knows").layout(config, inputs, torch.tensor([[7] * 4])).rows
    assert run.row.tolist() == [0, 0, 1, 1]


def test_ernie_reduces_between_attention_and_experts_with_its_token_types() -> None:
    """Its processor returns a type per token, which the experts read: they get short with the sequence."""
    model = build("ernie4_5_vl_moe", "Ernie4_5_VLMoeForConditionalGeneration")
    ids = torch.tensor([[9, *[model.config.image_token_id] * 6, 8, 7]])
    types = (ids == model.config.image_token_id).int()
    features = torch.randn(6, model.config.text_config.hidden_size)
    embeds = model.get_input_embeddings()(ids).masked_scatter(types.bool()[..., None], features)
    experts = [type(layer.mlp).__name__.endswith("MoeBlock") for layer in model.get_decoder().layers]
    expert = experts.index(True)
    inputs = {"inputs_embeds": embeds, "moe_mm_token_type_ids": types, "position_ids": torch.arange(9).expand(3, 1, 9)}
    zero = torch.zeros(6, dtype=torch.long)
    where = Placement(torch.arange(1, 7))
    layout = Layout(((Geometry(zero, zero, zero, zero, torch.arange(6), torch.arange(6)), where),), 9)
    with ff.reduce(model, Halve((after_attention(expert),)), layout=layout) as reduction, torch.no_grad():
        assert model(**inputs).logits.isfinite().all()
    assert reduction.report.layers[expert].length_out == 6
