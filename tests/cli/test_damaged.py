"""Checkpoints of strangers that are damaged or contradict themselves: one line and a hint, from every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from framefusion.cli.app import run_app
from framefusion.core.errors import CheckpointError, PromptError
from framefusion.inference.answer.checkpoint import load_checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.video import load_clip, write_clip
from tests.support import damaged
from tests.support.damaged import (
    CONFIG,
    GENERATION,
    INDEX,
    PROCESSOR,
    TEMPLATE,
    TOKENIZER,
    TOKENS,
    WEIGHTS,
    cut,
    gone,
    renamed,
    reshaped,
    setting,
    shards,
    without,
    written,
)
from tests.support.tiny import moving_clip, save_checkpoint

TEXT, VISION = "text_config", "vision_config"
WEIGHT_FILES = {
    "weights cut": cut(WEIGHTS, -1000),
    "weights cut in the header": cut(WEIGHTS, 100),
    "weights empty": written(WEIGHTS, b""),
    "weights that are text": written(WEIGHTS, "version 1\noid sha256:0\n"),
    "no weights": gone(WEIGHTS),
    "a pickle": damaged.pickled,
    "a decoder layer lost": renamed(".layers.1.", ""),
    "a decoder layer renamed": renamed("model.layers.1.", "backbone.layers.1."),
    "a projection of every layer lost": renamed("q_proj", ""),
    "the head renamed": renamed("lm_head", "head"),
    "the tower renamed": renamed("visual.blocks", "vision.blocks"),
    "the projector lost": renamed("visual.merger", ""),
    "embeddings of another size": reshaped("embed_tokens"),
    "a projector of another size": reshaped("merger.mlp.2.bias"),
    "an index that leads out": shards("../elsewhere.safetensors"),
    "an index to an absolute path": shards("/etc/hostname"),
    "an index of shards that are missing": shards("nothing/b.safetensors"),
    "an index that is a list": written(INDEX, "[]"),
    "an index without weights": written(INDEX, '{"metadata": {}, "weight_map": {}}'),
}
SETTINGS = {
    "configuration cut": cut(CONFIG, -10),
    "configuration empty": written(CONFIG, ""),
    "configuration binary": written(CONFIG, b"\xff\xfe\x00"),
    "configuration a list": written(CONFIG, "[]"),
    "configuration null": written(CONFIG, "null"),
    "configuration nested deeply": written(CONFIG, '{"a":' * 3000 + "1" + "}" * 3000),
    "no configuration": gone(CONFIG),
    "no type": without("model_type"),
    "another type": setting("model_type", "llama"),
    "an unknown type": setting("model_type", "qwen99_vl"),
    "a type that is a list": setting("model_type", ["qwen2_5_vl"]),
    "an unknown architecture": setting("architectures", ["Qwen99ForConditionalGeneration"]),
    "an architecture that is a word": setting("architectures", "Qwen2_5_VLForConditionalGeneration"),
    "the architecture of LLaVA-Video": setting("architectures", ["LlavaQwenForCausalLM"]),
    "no width": setting(f"{TEXT}.hidden_size", 0),
    "a negative width": setting(f"{TEXT}.hidden_size", -64),
    "a width that is a word": setting(f"{TEXT}.hidden_size", "wide"),
    "another width": setting(f"{TEXT}.hidden_size", 128),
    "twice the inner width": setting(f"{TEXT}.intermediate_size", 256),
    "an inner width beyond memory": setting(f"{TEXT}.intermediate_size", 10**10),
    "no layers": setting(f"{TEXT}.num_hidden_layers", 0),
    "layers for ever": setting(f"{TEXT}.num_hidden_layers", 10**12),
    "more layers": setting(f"{TEXT}.num_hidden_layers", 9),
    "no heads": setting(f"{TEXT}.num_attention_heads", 0),
    "heads that do not divide": setting(f"{TEXT}.num_attention_heads", 7),
    "no decoder": setting(TEXT, None),
    "a decoder that is empty": setting(TEXT, {}),
    "a decoder that is a list": setting(TEXT, [1]),
    "a tower that is a word": setting(VISION, "clip"),
    "no tower layers": setting(f"{VISION}.depth", 0),
    "no patches": setting(f"{VISION}.patch_size", 0),
    "another patch size": setting(f"{VISION}.patch_size", 14),
    "an unknown activation": setting(f"{TEXT}.hidden_act", "nonsense"),
    "an unknown precision": setting("dtype", "float99"),
    "rope that does not fit": setting(f"{TEXT}.rope_parameters.mrope_section", [1, 1, 1]),
    "rope that is a word": setting(f"{TEXT}.rope_parameters.rope_type", "nonsense"),
    "no base of rope": setting(f"{TEXT}.rope_parameters.rope_theta", 0),
    "a window of no size": setting(f"{VISION}.window_size", 0),
    "a threshold that is a word": setting("framefusion", {"similarity_lower_bound": "high"}),
    "a threshold out of range": setting("framefusion", {"similarity_lower_bound": 7}),
    "no threshold but a word": setting("framefusion", "high"),
    "a placeholder that is a letter": setting("video_token_id", 65),
    "a placeholder that is negative": setting("video_token_id", -1),
    "a placeholder that is a word": setting("video_token_id", "<video>"),
    "a placeholder no token has": setting("video_token_id", 10**9),
    "a placeholder beyond 64 bits": setting("video_token_id", 2**70),
    "a placeholder that is a fraction": setting("image_token_id", 2.5),
    "quantised by nobody": setting("quantization_config", "int4"),
    "weights of another folder": setting("transformers_weights", "../other/model.safetensors"),
    "generation settings a list": written(GENERATION, "[]"),
    "generation settings cut": cut(GENERATION, 20),
    "an end that is a word": setting("eos_token_id", "end", GENERATION),
}
PROMPTS = {
    "processor cut": cut(PROCESSOR, 60),
    "processor a list": written(PROCESSOR, "[]"),
    "no processor": gone(PROCESSOR),
    "an unknown processor": setting("processor_class", "NonsenseProcessor", PROCESSOR),
    "patches of no size": setting("video_processor.patch_size", 0, PROCESSOR),
    "patches of another model": setting("video_processor.patch_size", 14, PROCESSOR),
    "groups of another model": setting("video_processor.merge_size", 3, PROCESSOR),
    "means that are words": setting("video_processor.image_mean", ["a", "b", "c"], PROCESSOR),
    "a size that is a word": setting("video_processor.size", "big", PROCESSOR),
    "words cut": cut(TOKENS, -50),
    "words empty": written(TOKENS, "{}"),
    "no words": gone(TOKENS),
    "words a list": setting("model.vocab", [], TOKENS),
    "another placeholder": setting("video_token", "<other>", TOKENIZER),
    "tokenizer settings a list": written(TOKENIZER, "[]"),
    "a template that raises": written(TEMPLATE, "{{ raise_exception('no') }}"),
    "a template that is none": written(TEMPLATE, "{% for %}"),
    "a template that divides by zero": written(TEMPLATE, "{{ 1 / 0 }}"),
    "a template that looks for what is not there": written(TEMPLATE, "{{ messages[0].nothing.nothing }}"),
    "a template that reaches out": written(TEMPLATE, "{{ ''.__class__.__mro__ }}{{ messages + 1 }}"),
}
DAMAGE = WEIGHT_FILES | SETTINGS | PROMPTS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_checkpoint("qwen2_5_vl", folder, layers=2)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_clip(path, moving_clip(4, 56, 56), fps=4.0)
    return path


def hurt(whole: Path, folder: Path, name: str) -> Path:
    shutil.copytree(whole, folder)
    DAMAGE[name](folder)
    return folder


def refuses(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that has to say in one line, with a hint, what is wrong."""
    assert run_app(arguments) == 2
    seen = capsys.readouterr()
    lines = seen.err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in seen.err
    assert any(line.startswith("hint: ") for line in lines)
    return errors[0]


def at_work(folder: Path, video: Path) -> None:
    """Everything `run` does up to its answer."""
    from framefusion import FrameFusion
    from framefusion.inference.answer.answer import ask

    checkpoint = load_checkpoint(str(folder), device="cpu")
    inputs = build_prompt(checkpoint, load_clip(video, frames=4), "What?")
    ask(checkpoint, inputs, FrameFusion(cost=0.5).for_family(checkpoint.family), max_new_tokens=2)


def test_what_is_whole_answers(whole, video):
    at_work(whole, video)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_error(name, whole, video, tmp_path):
    folder = hurt(whole, tmp_path / "model", name)
    with pytest.raises((CheckpointError, PromptError)) as error:
        at_work(folder, video)
    assert error.value.hint and not (folder / "it-ran").exists()


COMMANDS = {
    "run": ["run", "{video}", "What?", "--model", "{model}", "--frames", "4"],
    "compare": ["run", "{video}", "What?", "--model", "{model}", "--frames", "4", "--compare"],
    "view": ["view", "{video}", "--model", "{model}", "--frames", "4", "--out", "{out}.html"],
    "analyze": ["analyze", "{video}", "--model", "{model}", "--frames", "4"],
    "evaluate": ["evaluate", "--model", "{model}", "--samples", "1", "--compare", "none", "--out", "{out}.jsonl"],
    "study": [
        *("study", "--model", "{model}", "--samples", "1", "--methods", "random", "--out", "{out}.jsonl"),
        *("--budgets", "0.5", "--weights", "16", "--activations", "16", "--kv", "16"),
    ],
    "map": ["map", "{video}", "-q", "What?", "--model", "{model}", "--frames", "4", "--out", "{out}.jsonl"],
}
SAMPLE = [
    "weights cut",
    "the tower renamed",
    "rope that does not fit",
    "a template that raises",
    "configuration a list",
]


def line(command: str, model: Path, video: Path, out: Path) -> list[str]:
    return [word.format(model=model, video=video, out=out) for word in COMMANDS[command]]


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "map"])
def test_every_command_says_it_in_one_line(command, name, whole, video, tmp_path, capsys):
    folder = hurt(whole, tmp_path / "model", name)
    refuses(line(command, folder, video, tmp_path / "out"), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weights cut", "a template that raises"])
def test_workers_say_it_in_one_line(name, whole, video, tmp_path, capsys):
    folder = hurt(whole, tmp_path / "model", name)
    refuses(line("map", folder, video, tmp_path / "out"), capsys)


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta", "xpu:3", ""])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there(command, device, whole, video, tmp_path, capsys):
    error = refuses([*line(command, whole, video, tmp_path / "out"), "--device", device], capsys)
    assert f"`{device}`" in error
    assert not (tmp_path / "out.jsonl").exists()


def test_a_device_is_looked_for_before_anything_is_read(capsys):
    assert "`nonsense`" in refuses(["run", "nowhere.mp4", "What?", "--device", "nonsense"], capsys)


@pytest.mark.parametrize("name", ["the tower renamed", "a decoder layer lost", "a projector of another size"])
def test_weights_are_named_and_counted(name, whole, tmp_path):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(str(hurt(whole, tmp_path / "model", name)), device="cpu")
    part = {"the tower": "visual.blocks.0", "a decoder": "layers.1.", "a projector": "merger.mlp.2.bias"}
    assert next(word for start, word in part.items() if name.startswith(start)) in error.value.why
    assert "weight" in error.value.why


def test_extra_weights_and_shards_are_no_damage(whole, video, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    shards("b.safetensors")(folder)
    at_work(folder, video)
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)
    weights = damaged.load_file(folder / WEIGHTS)
    damaged.save_file(weights | {"extra.weight": weights["lm_head.weight"].clone()}, folder / WEIGHTS)
    at_work(folder, video)


def test_missing_shards_of_an_index_are_named(whole, tmp_path):
    folder = hurt(whole, tmp_path / "model", "an index of shards that are missing")
    with pytest.raises(CheckpointError, match=r"b\.safetensors"):
        load_checkpoint(str(folder), device="cpu")


def test_greedy_whatever_the_checkpoint_prefers(whole, video, tmp_path, capsys):
    """Beams that a checkpoint asks for cannot be streamed."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    for name, value in {"num_beams": 4, "num_return_sequences": 3, "do_sample": True}.items():
        setting(name, value, GENERATION)(folder)
    assert run_app([*line("run", folder, video, tmp_path / "out"), "--max-new-tokens", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reduced"]["new_tokens"] == 2


OLDER = {  # names that checkpoints of LLaVA were published with, which transformers reads as today's
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}


def test_older_names_and_tied_weights_are_no_damage(tmp_path):
    folder = tmp_path / "model"
    save_checkpoint("llava", folder, layers=1)
    found, weights = damaged.load_file(folder / WEIGHTS), {}
    for name, weight in found.items():
        # Releases write either the older names or their own.
        start = next((start for start in OLDER if name.startswith(start)), "")
        weights[OLDER.get(start, "") + name.removeprefix(start)] = weight
    assert any(name.startswith("language_model.model.") for name in weights)
    damaged.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    load_checkpoint(str(folder), device="cpu")
    head = next(name for name in weights if "lm_head" in name)
    weights.pop(head)
    damaged.save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weight: lm_head\.weight"):
        load_checkpoint(str(folder), device="cpu")
    setting("tie_word_embeddings", True)(folder)
    setting("text_config.tie_word_embeddings", True)(folder)
    model = load_checkpoint(str(folder), device="cpu").model
    assert model.lm_head.weight is model.get_input_embeddings().weight
