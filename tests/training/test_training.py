"""The parts of training that would teach the wrong thing in silence if they were wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from framefusion.evaluation.synthetic_questions import FRAMES, draw_scene, questions, render
from framefusion.evaluation.synthetic_questions.scene import COLOURS, Flash, Scene, Thing
from training.architecture import GRID, UNKNOWN, WIDTH, build_model, build_processor, build_tokenizer, token_id
from training.features import clip_features
from training.labels import COLOUR_NAMES, NOTHING, label
from training.language import Reader, grow
from training.packing import HEAD, PLAIN, VISUAL, Asker, Loss, lose_inside, moment, pack, survivors
from training.progress import load, rate_at, save
from training.states import LOWER
from training.tower import (
    Heads,
    attend_by_frame,
    join,
    normalisation,
    patches,
    see,
    stop_attending_by_frame,
    tower_loss,
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    thing = Thing("red", "ring", 10, (40.0, 70.0), (0.0, 1.0), appears=4)
    return Scene(0, (thing,), change=None, digit=None, flash=Flash("blue", 9, (56, 56)), pillar=None, look=1)


def test_patches_are_those_of_the_processor() -> None:
    clip = render(draw_scene(3))
    wanted = build_processor().video_processor(videos=[clip], do_sample_frames=False, return_tensors="pt")
    assert torch.allclose(patches(torch.from_numpy(clip), *normalisation()), wanted["pixel_values_videos"], atol=1e-5)


def test_attention_by_frame_is_the_stock_attention() -> None:
    torch.manual_seed(0)
    visual = build_model(1).model.visual.eval()
    rows = torch.randn(3 * (2 * GRID) ** 2, 588)
    with torch.no_grad():
        stock = see(visual, rows, 3)
        attend_by_frame(visual)
        batched = see(visual, rows, 3)
        stop_attending_by_frame(visual)
    assert torch.allclose(stock, batched, atol=1e-5)
    assert "forward" not in visual.blocks[0].attn.__dict__


def test_labels_are_where_the_thing_is(scene: Scene) -> None:
    labels = label(scene, list(range(FRAMES)), render(scene))
    red = COLOUR_NAMES.index("red")
    row, column = scene.things[0].at(20)
    cell = row // 28, column // 28
    assert labels.centred[20, *cell, red] == 1 and labels.centred[20, :, :, red].sum() == 1
    assert labels.centred[3].sum() == 0  # not there yet
    assert labels.shape[20, *cell] == 4 and (labels.shape[20] != NOTHING).sum() == 1
    down, right = labels.offset[20, *cell, red] * 28
    assert (row, column) == pytest.approx((cell[0] * 28 + 14 + down, cell[1] * 28 + 14 + right))
    assert labels.flash[9, :, :, COLOUR_NAMES.index("blue")].sum() >= 4 and labels.flash[10].sum() == 0
    assert labels.way[20, *cell, red] == 2 and labels.way[5, *cell, red] == NOTHING


def test_a_perfect_reading_of_the_labels_costs_next_to_nothing(scene: Scene) -> None:
    labels = label(scene, [8, 9, 20], render(scene, [8, 9, 20]))
    truth = {name: torch.from_numpy(getattr(labels, name)).flatten(0, 2) for name in vars(labels)}
    flags = {name: (truth[name] * 2 - 1) * 30 for name in ("touched", "centred", "digit_near", "flash")}
    classes = {"shape": torch.nn.functional.one_hot(truth["shape"].clamp(min=0), 5) * 30.0}
    answers = flags | classes | {name: truth[name] for name in ("offset", "radius", "pixels")}
    answers["digit"] = torch.zeros(len(truth["digit"]), 10)
    perfect = tower_loss(answers, labels)
    assert sum(loss.item() for loss in perfect.values()) < 1e-4
    answers["centred"] = -answers["centred"]
    assert tower_loss(answers, labels)["centred"] > 10


def test_every_question_and_answer_is_in_the_vocabulary() -> None:
    encode, unknown = build_tokenizer(), token_id(UNKNOWN)
    for seed in range(60):
        for question in questions(draw_scene(seed)):
            for text in (question.text, *question.choices):
                assert unknown not in encode(text)["input_ids"]
                assert text == question.text or encode.decode(encode(text)["input_ids"]) == text


@pytest.fixture(scope="module")
def reader() -> Reader:
    torch.manual_seed(0)
    return Reader(LOWER).eval()


def some(count: int) -> np.ndarray:
    """(1, count) places in order."""
    return np.sort(np.random.default_rng(count).permutation(VISUAL)[:count])[None]


def test_tokens_are_lost_in_every_way_a_reduction_may_take() -> None:
    still = np.linspace(0, 1, VISUAL)
    seen = set()
    for seed in range(40):
        kept = survivors(still, 160, np.random.default_rng(seed))
        assert len(set(kept)) == 160 and (np.diff(kept) > 0).all()
        whole_frames = len(set(kept // (GRID * GRID))) == 10
        seen.add("frames" if whole_frames and kept[-1] > 200 else "still" if kept[-1] < 240 else "any")
    assert seen == {"frames", "still", "any"}


def test_a_moment_shows_both_sides_of_a_change() -> None:
    for seed in range(60):
        found, change = Asker().what_changed(seed, np.random.default_rng(seed)), draw_scene(seed).change
        assert change is not None if found else change is None or change.what in PLAIN
        if found is not None:
            frames = moment(found[0], np.random.default_rng(seed)) // (GRID * GRID)
            assert frames[0] >= 0 and frames[-1] < FRAMES and frames[0] < found[0] <= frames[-1] - 1


def test_a_packed_question_is_answered_as_if_it_were_asked_alone(reader: Reader) -> None:
    draw = np.random.default_rng(0)
    asker = Asker()
    segments = asker.segments(1, draw, most=4)
    kept = some(100)
    packed = pack([segments], kept, draw)
    tokens = torch.randn(1, 100, WIDTH)
    alone = pack([segments[2:3]], kept, draw)
    here = (packed.segment[0] == 3).nonzero().flatten()
    front = packed.positions.shape[2] - packed.text.shape[1]
    columns = torch.cat([torch.arange(front + 1), front + here])
    alone.positions = packed.positions[:, :, columns]
    with torch.no_grad():
        together, *_ = reader(tokens, packed)
        single, *_ = reader(tokens, alone)
    assert torch.allclose(together[0, here], single[0, 1:], atol=2e-2)


def test_lost_inside_is_lost_from_that_layer_on(reader: Reader) -> None:
    """Lost to every layer it is as if it had never been there; lost to none, as if nothing were lost."""
    draw = np.random.default_rng(0)
    segments = Asker().segments(1, draw, most=4)
    whole, tokens = pack([segments], some(100), draw), torch.randn(1, 100, WIDTH)
    lost = lose_inside(whole, 0.6, 0, draw)
    stay = lost.stay[0]
    few = pack([segments], some(100)[:, stay.numpy()], draw)
    few.positions = whole.positions[:, :, lost.columns[0]]
    with torch.no_grad():
        without, *_ = reader(tokens[:, stay], few)
        inside, *_ = reader(tokens, whole, lost)
        late, *_ = reader(tokens, whole, Loss(LOWER, lost.stay, lost.columns))
        dense, *_ = reader(tokens, whole)
        middle, *_ = reader(tokens, whole, Loss(1, lost.stay, lost.columns))
    rounding = float((inside - without).abs().max())
    assert rounding < 2e-2 and torch.equal(late, dense)
    assert min(float((middle - other).abs().max()) for other in (dense, inside)) > 2 * rounding


def test_the_targets_are_the_answers(reader: Reader) -> None:
    asker = Asker()
    segments = asker.segments(2, np.random.default_rng(0))
    packed = pack([segments], some(20), np.random.default_rng(0))
    for number, segment in enumerate(segments, 1):
        here = packed.segment[0] == number
        targets = packed.target[0][here]
        assert targets[targets != NOTHING].tolist() == segment.tokens[-segment.answer :]
        # A target stands one column before the token it asks for.
        last = packed.text[0][here].tolist()
        assert last[-segment.answer :] == segment.tokens[-segment.answer :]


def test_positions_are_those_of_the_stock_model() -> None:
    """The packed prompt and the processor's prompt place every token alike."""
    processor, model = build_processor(), build_model(1)
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what changed?"}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    clip = render(draw_scene(0))
    from transformers.video_utils import VideoMetadata

    metadata = VideoMetadata(total_num_frames=FRAMES, fps=8.0, frames_indices=list(range(FRAMES)))
    inputs = processor(
        text=[text], videos=[clip], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
    )
    types = (inputs["input_ids"] == token_id("<|video_pad|>")).long() * 2
    stock, _ = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=types.int(),
        video_grid_thw=inputs["video_grid_thw"],
        second_per_grid_ts=inputs.get("second_per_grid_ts"),
        attention_mask=inputs["attention_mask"],
    )
    asker = Asker()
    segment = next(
        one for seed in range(99) for one in asker.segments(seed, np.random.default_rng(0)) if one.kind == "change"
    )
    packed = pack([[segment]], some(VISUAL), np.random.default_rng(0))
    length = inputs["input_ids"].shape[1]
    ids = torch.cat([inputs["input_ids"][0, : len(HEAD) + FRAMES * GRID * GRID], packed.text[0]])[:length]
    assert ids.tolist() == inputs["input_ids"][0].tolist()
    assert torch.equal(packed.positions[:, 0, :length], stock[:, 0])


def test_growing_keeps_the_function(reader: Reader) -> None:
    deep = Reader(8).eval()
    deep.load_state_dict(grow(reader.state_dict(), LOWER, 8))
    packed = pack([Asker().segments(1, np.random.default_rng(0))], some(50), np.random.default_rng(0))
    tokens = torch.randn(1, 50, WIDTH)
    with torch.no_grad():
        shallow, grown = reader(tokens, packed)[0], deep(tokens, packed)[0]
    assert torch.allclose(shallow, grown, atol=2e-2)


def test_features_have_every_token_and_its_labels() -> None:
    torch.manual_seed(0)
    visual = build_model(1).model.visual.eval()
    row = clip_features(visual, 0)
    assert row["tokens"].shape == (FRAMES * GRID * GRID, WIDTH)
    assert row["way"].shape == (FRAMES * GRID * GRID, len(COLOURS))


def test_the_course_of_the_learning_rate() -> None:
    factors = [rate_at(step, 100) for step in range(100)]
    assert factors[0] == 0 and max(factors) == 1 and factors[-1] < 0.01
    assert factors.index(1.0) <= 4 and factors[60] == 1


def test_a_saved_state_comes_back_and_no_half_written_file_stays(tmp_path: Path) -> None:
    assert load(tmp_path / "deep" / "state.pt") is None
    save(tmp_path / "deep" / "state.pt", {"step": 3, "weight": torch.ones(2)})
    found = load(tmp_path / "deep" / "state.pt")
    assert found is not None and found["step"] == 3
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.pt"]


def test_heads_and_labels_agree_on_sizes(scene: Scene) -> None:
    labels = join([label(scene, [1], render(scene, [1]))] * 2)
    losses = tower_loss(Heads()(torch.randn(2 * GRID * GRID, WIDTH)), labels)
    assert all(torch.isfinite(loss) for loss in losses.values())
