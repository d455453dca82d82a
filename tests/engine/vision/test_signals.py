"""What stages are told about the vision tower, against the stock eager attention and plain loops."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import ClassVar

import pytest
import torch

import framefusion as ff
from framefusion.core.errors import MissingSignalError
from framefusion.core.layout import PATCH
from framefusion.core.method import Method, MethodFacts, before
from framefusion.core.ops.attention import received_attention
from framefusion.core.ops.grid import to_tokens
from framefusion.core.plan import Plan
from framefusion.core.stage import DecoderStage, ProjectorStage
from framefusion.engine.attention_call import AttentionCall
from framefusion.engine.vision.run import TowerRun
from tests.support import naive_tower
from tests.support.tiny import build_model, moving_clip, prompt

LAYERS = (-1, -2)
SOURCES = {
    "llava": "cls",
    "internvl": "cls",
    "llava_next_video": "cls",
    "llava_onevision": "received",
    "gemma3": "received",
    "qwen2_vl": "received",
    "qwen2_5_vl": "received",
    "qwen3_vl": "received",
    "qwen3_5": "received",
}
GROUPED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")
FIXED_SIZE = tuple(name for name in SOURCES if name not in GROUPED)


@dataclasses.dataclass(frozen=True)
class Look(Method):
    """Notes everything the tower says about the patches of each row, and changes nothing."""

    layer: int = 0
    drop: int = 0
    by_picture: bool = False
    seen: list = dataclasses.field(default_factory=list)

    facts: ClassVar[MethodFacts] = MethodFacts("look", "Look", "", "", "", False, "data", False)

    def stages(self):
        needs = frozenset({"hidden", "vision"})
        if self.by_picture:
            return (ProjectorStage(self.note),)
        early = DecoderStage(
            before(0), lambda signals: Plan.select(torch.arange(len(signals))[self.drop :], len(signals))
        )
        late = DecoderStage(before(self.layer), self.note, needs=needs, by_clip=False)
        return (early, late) if self.drop else (late,)

    def note(self, signals):
        vision = signals.vision()
        noted = {"source": vision.source, "geometry": signals.geometry}
        for layer in LAYERS:
            noted["keys", layer] = vision.keys(layer)
            for headless in (False, True):
                noted["saliency", layer, headless] = vision.saliency(layer, headless)
        noted["features"] = vision.features()
        self.seen.append(noted)
        return Plan.identity(len(signals))


def clip(frames, height=56, width=56, seed=0):
    return moving_clip(frames, height, width, seed)


@cache
def model(name):
    return build_model(name, attn="eager")


def rows_of(name):
    """Images and videos in one prompt, rows of unequal numbers of pictures, and sizes that no window divides."""
    if name in GROUPED:
        long = [("video", clip(4, 42, 70)), ("text", "and"), ("image", clip(1, 56, 84, 3)[0]), ("text", "what?")]
        return [long, [("image", clip(1, 70, 42, 5)[0]), ("text", "q"), ("video", clip(2, seed=7)), ("text", "?")]]
    if name in ("llava_onevision", "llava_next_video"):
        return [[("video", clip(2)), ("text", "what happens?")], [("video", clip(2, seed=7)), ("text", "?")]]
    long = [("image", clip(1)[0]), ("text", "and"), ("video", clip(2, seed=4)), ("text", "what happens?")]
    return [long, [("video", clip(2, seed=7)), ("text", "?")]]


def look(net, inputs, **options):
    method = Look(**options)
    with ff.reduce(net, method) as reduction, torch.no_grad():
        net(**inputs)
    return method.seen, reduction.report


def by_hand(net, inputs, layout, name):
    """Per row: (picture of each kind, its tokens), in the order of the prompt."""
    with naive_tower.observed(net) as runs, torch.no_grad():
        net(**inputs)
    made = {layer: [naive_tower.pictures_of(run, layer) for run in runs] for layer in LAYERS}
    features = [naive_tower.features_of(run) for run in runs]
    pooled = [None if run.pooled is None else naive_tower.pooling_weights(run, net) for run in runs]
    taken = [0 for _ in runs]
    for geometry, placement in layout.rows:
        row = []
        for picture in torch.unique(torch.stack([geometry.clip, geometry.frame]), dim=1).T.tolist():
            inside = (geometry.clip == picture[0]) & (geometry.frame == picture[1]) & (geometry.kind == PATCH)
            video = placement.video is not None and bool(placement.video[inside][0])
            kind = int(video) if len(runs) > 1 else 0
            number = taken[kind]
            taken[kind] += 1
            found = {layer: made[layer][kind][number] for layer in LAYERS}
            weights = None if pooled[kind] is None else pooled[kind][number]
            row.append((found, features[kind][number], weights, int(inside.sum())))
        yield row


def compare(seen, row, source, grouped):
    """What one row was told, against its pictures by hand."""
    assert seen["source"] == source
    lead = 1 if source == "cls" else 0

    def joined(values):
        return torch.cat([naive_tower.as_tokens(part, count, grouped) for part, count in values])

    def close(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)

    close(seen["features"], joined((features, count) for _, features, _, count in row))
    for layer in LAYERS:
        close(seen["keys", layer], joined((found[layer]["keys"][lead:], count) for found, _, _, count in row))
        for headless in (False, True):
            name = source + "_headless" * headless
            scores = [
                (weights if source == "pooling head" else found[layer][name], count) for found, _, weights, count in row
            ]
            assert seen["saliency", layer, headless].dtype == torch.float32
            close(seen["saliency", layer, headless], joined(scores))


@pytest.mark.parametrize("name", SOURCES)
def test_signals_are_those_of_the_tower(name):
    net, inputs = model(name), prompt(name, rows_of(name))
    seen, report = look(net, inputs)
    rows = list(by_hand(net, inputs, report.layout, name))
    assert len(seen) == len(rows) == 2
    for noted, row in zip(seen, rows, strict=True):
        compare(noted, row, SOURCES[name], name in GROUPED)


@pytest.mark.parametrize("name", ["llava", "internvl", "qwen2_5_vl", "llava_onevision"])
def test_each_picture_is_told_about_itself_alone(name):
    net, inputs = model(name), prompt(name, rows_of(name))
    seen, report = look(net, inputs, by_picture=True)
    pictures = [picture for row in by_hand(net, inputs, report.layout, name) for picture in row]
    rows = [row for geometry, _ in report.layout.rows for row in geometry.clip[geometry.kind == PATCH].tolist()]
    assert len(seen) == len(pictures) and sum(len(noted["geometry"]) for noted in seen) == len(rows)
    if SOURCES[name] == "cls":
        # In front of the projector all images come before all videos; here one kind of placeholder stands for both.
        assert report.decisions[0].point.layer == -1
    for noted, picture in zip(seen, pictures, strict=True):
        compare(noted, [picture], SOURCES[name], name in GROUPED)


def test_the_pooling_head_of_siglip():
    net = naive_tower.siglip_with_head()
    inputs = prompt("llava_onevision", rows_of("llava_onevision"))
    seen, report = look(net, inputs)
    for noted, row in zip(seen, by_hand(net, inputs, report.layout, "llava_onevision"), strict=True):
        compare(noted, row, "pooling head", False)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
@pytest.mark.parametrize("layer", [0, 2])
def test_tokens_that_are_left_keep_their_own_signals(name, layer):
    """Another stage dropped the first tokens of every clip before."""
    net, inputs = model(name), prompt(name, rows_of(name))
    whole, _ = look(net, inputs)
    part, _ = look(net, inputs, drop=5, layer=layer)
    for before_, after in zip(whole, part, strict=True):
        clips = before_["geometry"].clip
        left = torch.cat([(clips == number).nonzero().flatten()[5:] for number in clips.unique()])
        for key in before_:
            if isinstance(before_[key], torch.Tensor):
                assert torch.equal(after[key], before_[key][left])


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "llava_onevision", "internvl"])
def test_a_changed_token_shows_where_it_is(name):
    """The first attention layer's keys know one patch each; only those of the changed token change."""
    height, width = (42, 70) if name in GROUPED else (56, 56)
    frames = clip(2, height, width)
    changed = frames.copy()
    row, column = 2, 3
    changed[:, 14 * row : 14 * (row + 1), 14 * column : 14 * (column + 1)] += 40
    keys = []
    for picture in (frames, changed):
        seen, _ = look(model(name), prompt(name, [[("video", picture), ("text", "?")]]))
        keys.append(seen[0]["keys", -2])
    geometry = seen[0]["geometry"]
    there = (geometry.row == row) & (geometry.column == column)
    assert torch.equal((keys[0] - keys[1]).abs().amax(1) > 1e-5, there)


def test_a_window_hides_the_rest_of_the_picture():
    """Behind one windowed layer of Qwen2.5-VL a change has reached the tokens of its window and no other."""
    frames = clip(2, 42, 70)
    changed = frames.copy()
    changed[:, 28:42, 42:56] += 40
    keys = []
    for picture in (frames, changed):
        seen, _ = look(model("qwen2_5_vl"), prompt("qwen2_5_vl", [[("video", picture), ("text", "?")]]))
        keys.append(seen[0]["keys", -1])
    geometry = seen[0]["geometry"]
    window = (geometry.row >= 2) & (geometry.column // 2 == 1)
    assert torch.equal((keys[0] - keys[1]).abs().amax(1) > 1e-5, window)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "llava"])
def test_saliency_of_a_picture_is_a_share_of_its_attention(name):
    """Received attention sums to one over a picture (four patches count as one token), the class token's to less."""
    seen, _ = look(model(name), prompt(name, rows_of(name)), by_picture=True)
    for noted in seen:
        for layer in LAYERS:
            total = float(noted["saliency", layer, False].sum())
            assert 0 < total < 1 if name == "llava" else abs(4 * total - 1) < 1e-4


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_any_kernel_shows_the_same(name, attn):
    inputs = prompt(name, rows_of(name))
    seen, _ = look(build_model(name, attn=attn), inputs)
    stock, _ = look(model(name), inputs)
    for found, expected in zip(seen, stock, strict=True):
        for key in expected:
            if isinstance(expected[key], torch.Tensor):
                torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6)


def test_flash_kernels_are_taken_apart_at_the_borders():
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 20, 4, generator=draw) for _ in range(2))
    borders = torch.tensor([0, 8, 12, 20])
    call = TowerRun(grouped=True, pictures=[8, 12])
    module = torch.nn.Identity()
    call.saw_attention(module, AttentionCall(module, query, key, key, None, 0.5, None, borders))
    parts = [(0, 8), (8, 12), (12, 20)]
    assert len(call.layers[-1]) == len(parts)
    for seen, (start, end) in zip(call.layers[-1], parts, strict=True):
        expected = received_attention(query[0, :, start:end], key[0, :, start:end], 0.5)
        assert torch.equal(received_attention(seen.query[0], seen.key[0], seen.scale), expected)


def test_pixel_shuffle_of_internvl_takes_the_patches_of_one_token():
    """Which patches a token of InternVL is made of, by sending patch numbers through the stock code."""
    numbers = torch.arange(64.0).view(1, 8, 8, 1).repeat(1, 1, 1, 2)
    shuffled = model("internvl").model.pixel_shuffle(numbers, scale_factor=0.5).reshape(16, -1)
    assert torch.equal(shuffled.mean(1, keepdim=True), to_tokens(torch.arange(64.0)[:, None], 16, False))


def test_half_precision():
    net = build_model("llava", dtype=torch.bfloat16)
    inputs = prompt("llava", rows_of("llava"))
    seen, _ = look(net, inputs)
    full, _ = look(build_model("llava"), inputs)
    for found, expected in zip(seen, full, strict=True):
        assert found["saliency", -1, True].dtype == torch.float32
        torch.testing.assert_close(found["saliency", -1, False], expected["saliency", -1, False], rtol=0.1, atol=1e-3)


def test_pictures_whose_tokens_were_left_out_are_refused():
    rows = [[("video", clip(4)), ("text", "?")]]
    with pytest.raises(MissingSignalError, match="left out"):
        look(build_model("video_llama_3"), prompt("video_llama_3", rows))


def test_pictures_cut_into_tiles_are_refused():
    rows = [[("image", clip(1, 56, 112)[0]), ("text", "?")]]
    with pytest.raises(MissingSignalError, match="prompt shows 1"):
        look(build_model("llava_onevision"), prompt("llava_onevision", rows))


def test_a_bare_decoder_has_no_tower():
    decoder = build_model("llava").model.language_model
    with pytest.raises(MissingSignalError, match="no vision tower"):
        ff.reduce(decoder, Look())


def test_pictures_encoded_beforehand_are_nobody_s():
    net, inputs = build_model("llava"), prompt("llava", rows_of("llava"))
    from framefusion.engine import context

    with ff.reduce(net, Look()), torch.no_grad():
        net.model.get_image_features(inputs["pixel_values"])
        assert not context.tower_runs()
