"""Models that hand embeddings to their language model: the layout is found from the embedding call, by shape alone."""

from __future__ import annotations

import pytest
import torch

import framefusion as ff
from framefusion.core.layout import NEWLINE, PATCH, Layout
from tests.support.remote import WORDS
from tests.support.tiny import moving_clip

METHOD = ff.FrameFusion(cost=0.4, similarity_lower_bound=0.9)
OPTIONS = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
QUERIES, PATCHES, TILE_TOKENS, FEW_TILE_TOKENS = 4, 16, 16, 4
NAMES = ("minicpmv", "vila", "internvl_chat", "pvc_internvl")


def pixels(frames: int, seed: int = 0) -> torch.Tensor:
    """(T, 3, 56, 56) in [-1, 1]; frames repeat much of the one before."""
    clip = torch.from_numpy(moving_clip(frames, seed=seed, change=0.3))
    return clip.permute(0, 3, 1, 2).float() / 127.5 - 1


def tokens(*parts: str | tuple[str, int]) -> list[int]:
    """Ids of text and of (special token, times)."""
    tokenizer = WORDS.tokenizer()
    return [
        number
        for part in parts
        for number in ([WORDS.id(part[0])] * part[1] if isinstance(part, tuple) else tokenizer(part)["input_ids"])
    ]


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([[WORDS.id(WORDS.pad)] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def minicpmv(counts: list[int]) -> tuple[dict, list]:
    """Inputs with one row per count of frames, and the (kind, frame) of each row's visual tokens."""
    unit = (("<image>", 1), ("<unk>", QUERIES), ("</image>", 1), "\n")
    inputs = padded([tokens("frames ", *(unit * count), f"what happens in {count}?") for count in counts])
    first, last = WORDS.id("<image>"), WORDS.id("</image>")
    bounds = [
        torch.stack([(row == first).nonzero().flatten() + 1, (row == last).nonzero().flatten()], 1)
        for row in inputs["input_ids"]
    ]
    inputs |= {"pixel_values": [list(pixels(count, row)) for row, count in enumerate(counts)], "image_bound": bounds}
    return inputs, [[(PATCH, frame) for frame in range(count) for _ in range(QUERIES)] for count in counts]


def vila(counts: list[int]) -> tuple[dict, list]:
    rows = [
        tokens("look: ", *[("<vila/video>", 1)] * bool(count), "\n", f"what happens in {count}?") for count in counts
    ]
    media = {"video": [pixels(count, row) for row, count in enumerate(counts) if count]}
    frame = [PATCH] * PATCHES + [NEWLINE]
    return padded(rows) | {"media": media}, [[(kind, f) for f in range(n) for kind in frame] for n in counts]


def internvl_chat(counts: list[int], per_tile: int = TILE_TOKENS) -> tuple[dict, list]:
    """All tiles of a row in one run."""
    rows = [
        tokens("image: ", *[("<img>", 1), ("<IMG_CONTEXT>", per_tile * count), ("</img>", 1)], f" what is {count}?")
        for count in counts
    ]
    pictures = torch.cat([pixels(count, row) for row, count in enumerate(counts)])
    kinds = [[(PATCH, frame) for frame in range(count) for _ in range(per_tile)] for count in counts]
    return padded(rows) | {"pixel_values": pictures}, kinds


def pvc_internvl(counts: list[int]) -> tuple[dict, list]:
    return internvl_chat(counts, FEW_TILE_TOKENS)


INPUTS = {"minicpmv": minicpmv, "vila": vila, "internvl_chat": internvl_chat, "pvc_internvl": pvc_internvl}


@pytest.fixture
def model(loaded, request):
    found = loaded(request.param).model
    if "internvl" in request.param:
        found.img_context_token_id = WORDS.id("<IMG_CONTEXT>")
    return found


every_shape = pytest.mark.parametrize(("model", "name"), [(name, name) for name in NAMES], indirect=["model"])


def text_model(model):
    return next(child for child in model.children() if hasattr(child, "generate"))


def handed_over(model, inputs) -> dict[str, torch.Tensor]:
    """What the language model is given: embeddings, and the mask if any."""
    seen: dict[str, torch.Tensor] = {}
    inner = text_model(model)

    def note(module, args, kwargs):
        if not seen:
            seen.update(kwargs)

    hook = inner.register_forward_pre_hook(note, with_kwargs=True)
    model.generate(**inputs, **OPTIONS)
    hook.remove()
    return {name: seen[name].clone() for name in ("inputs_embeds", "attention_mask") if seen.get(name) is not None}


@every_shape
@pytest.mark.parametrize("counts", [[3], [4, 2]])
def test_geometry_and_columns(model, name, counts):
    inputs, wanted = INPUTS[name](counts)
    with ff.reduce(model, ff.FrameFusion(cost=1.0), pictures_are_frames=True) as reduction:
        model.generate(**inputs, **OPTIONS)
    embeds = handed_over(model, inputs)["inputs_embeds"]
    words = model.get_input_embeddings().weight
    for row, (geometry, placement) in enumerate(reduction.report.layout.rows):
        assert list(zip(geometry.kind.tolist(), geometry.frame.tolist(), strict=True)) == wanted[row]
        assert set(geometry.clip.tolist()) == {0}
        patches = set(placement.columns[geometry.kind == PATCH].tolist())
        text = {c for c in range(embeds.shape[1]) if bool((words == embeds[row, c]).all(1).any())}
        padding = {c for c in range(embeds.shape[1]) if not bool(embeds[row, c].any())}
        assert patches == set(range(embeds.shape[1])) - text - padding


@every_shape
def test_the_answer_is_that_of_the_language_model_with_the_layout_given(model, name):
    """Alone, and each row of a padded batch."""
    inputs, _ = INPUTS[name]([4, 2])
    with ff.reduce(model, METHOD) as reduction:
        found = model.generate(**inputs, **OPTIONS)
    layout, report = reduction.report.layout, reduction.report
    assert 0 < report.kept_tokens < report.visual_tokens
    inner, given = text_model(model), handed_over(model, inputs)
    method = reduction.method
    with ff.reduce(inner, method, layout=layout):
        assert inner.generate(**given, **OPTIONS).tolist() == found.tolist()
    for row in range(2):
        real = slice(None) if "attention_mask" not in given else given["attention_mask"][row].bool()
        alone = given["inputs_embeds"][row][real][None]
        geometry, placement = layout.rows[row]
        first = layout.length - alone.shape[1]
        with ff.reduce(inner, method, layout=Layout(((geometry, placement.shifted(-first)),), alone.shape[1])):
            assert inner.generate(inputs_embeds=alone, **OPTIONS).tolist() == found[row : row + 1].tolist()


@every_shape
def test_nothing_changes_at_full_cost_and_nothing_stays(model, name):
    inputs, _ = INPUTS[name]([3])
    before = {id(m): set(m.__dict__) for m in model.modules()}
    dense = model.generate(**inputs, **OPTIONS).tolist()
    with ff.reduce(model, ff.FrameFusion(cost=1.0)):
        assert model.generate(**inputs, **OPTIONS).tolist() == dense
    with ff.reduce(model, METHOD):
        model.generate(**inputs, **OPTIONS)
    assert model.generate(**inputs, **OPTIONS).tolist() == dense
    assert {id(m): set(m.__dict__) for m in model.modules()} == before
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


@every_shape
def test_beams_and_text_between_prompts(model, name):
    inputs, wanted = INPUTS[name]([3])
    with ff.reduce(model, METHOD) as reduction:
        model.generate(**inputs, **OPTIONS, num_beams=2)
        assert [len(g) for g, _ in reduction.report.layout.rows] == [len(wanted[0])] * 2
        ids = torch.tensor([tokens("only words")])
        text_model(model).generate(input_ids=ids, **OPTIONS)
    assert reduction.report.prompts_without_visual_tokens == 1


@pytest.mark.parametrize("model", ["vila"], indirect=True)
def test_a_row_without_media_and_several_media_in_a_row(model):
    tokenizer = WORDS.tokenizer()
    media = {"video": [pixels(2), pixels(3, 1)], "image": [pixels(1, 2)]}
    video, image = ("<vila/video>", 1), ("<image>", 1)
    rows = [tokens(video, "\n", video, "\n", image, "and?"), tokenizer("just a rather long question without pictures")]
    rows[1] = rows[1]["input_ids"]
    with ff.reduce(model, ff.FrameFusion(cost=1.0)) as reduction:
        model.generate(**padded(rows), media=media, **OPTIONS)
    (first, placed), (second, _) = reduction.report.layout.rows
    assert len(second) == 0
    assert int((first.kind == NEWLINE).sum()) == 6 and int((first.kind == PATCH).sum()) == 6 * PATCHES
    gaps = placed.columns.diff()
    assert (gaps > 1).sum() == 2 and gaps.max() == 2


@pytest.mark.parametrize("model", ["minicpmv"], indirect=True)
def test_a_thread_of_its_own_generates(model):
    inputs, wanted = minicpmv([3])
    inputs.pop("attention_mask")
    with ff.reduce(model, METHOD) as reduction:
        streamer = model.generate(**inputs, tokenizer=WORDS.tokenizer(), stream=True, **OPTIONS)
        assert "".join(streamer)
    assert reduction.report.visual_tokens == len(wanted[0]) > reduction.report.kept_tokens


@torch.no_grad()
def test_plain_forwards(loaded):
    for name in NAMES:
        model = loaded(name).model
        if name == "internvl_chat":
            model.img_context_token_id = WORDS.id("<IMG_CONTEXT>")
        inputs, wanted = INPUTS[name]([3])
        if name == "minicpmv":
            length = inputs["input_ids"].shape[1]
            inputs = {"data": inputs | {"position_ids": torch.arange(length)[None]}}
        with ff.reduce(model, METHOD) as reduction:
            model(**inputs)
        assert reduction.report.visual_tokens == len(wanted[0]) > reduction.report.kept_tokens


@torch.no_grad()
def test_a_model_that_no_file_names(loaded, monkeypatch):
    model = loaded("vila").model
    monkeypatch.setattr(type(model.config), "model_type", "nobody_knows")
    inputs, wanted = vila([4])
    with ff.reduce(model, METHOD) as reduction:
        model.generate(**inputs, **OPTIONS)
    assert reduction.report.visual_tokens == len(wanted[0]) > reduction.report.kept_tokens


def test_ids_of_another_prompt_explain_nothing(loaded):
    """The embedding was called with other ids of the same number; every column differs, so none is taken as visual."""
    model = loaded("minicpmv").model
    inner = text_model(model)
    with ff.reduce(model, METHOD) as reduction, torch.no_grad():
        model.get_input_embeddings()(torch.tensor([tokens("some other prompt")]))
        embeds = model.get_input_embeddings()(torch.tensor([tokens("not the one again")]))[:, :17] + 0.5
        model.get_input_embeddings()(torch.tensor([tokens("some other prompt")]))
        inner.generate(inputs_embeds=embeds, **OPTIONS)
    assert reduction.report.prompts_without_visual_tokens == 1
