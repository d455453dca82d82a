"""With the installed lmms-eval: a local task, tiny checkpoints, and the ids its users type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.needle import FRAMES, build_task
from tests.support import tiny

pytest.importorskip("lmms_eval", reason="needs lmms-eval, see `make test-lmms`")
pytest.importorskip("decord", reason="lmms-eval's wrappers need decord, see `make test-lmms`")

TASK = "framefusion_needle"
QWEN = {"device_map": "cpu", "max_num_frames": FRAMES, "max_pixels": 12544, "min_pixels": 3136}
# lmms-eval's id, the tiny family behind it, and what makes its wrapper run on a CPU.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2_vl": ("qwen2_vl", QWEN),
    "qwen2_5_vl": ("qwen2_5_vl", QWEN),
    "qwen3_vl": ("qwen3_vl", QWEN),
    "llava_onevision": ("llava_onevision", {"max_frames_num": FRAMES}),
    "internvl3": ("internvl", {"device_map": "cpu", "num_frames": FRAMES}),
    "llava_vid": ("llava_onevision", {"frames": FRAMES}),
    "framefusion_hf": ("qwen2_5_vl", {"frames": FRAMES}),
}
SIMPLE = ("qwen2_5_vl", "qwen3_vl")
# Of the task's answers.
NEW_TOKENS = 16
# lmms-eval prepares pictures for a patch of 16 pixels, whatever the checkpoint says.
PATCH = 16


def _patches_of_16(family: Any) -> Any:
    def config(layers: int = 4) -> Any:
        made = family.config(layers)
        made.vision_config.patch_size = PATCH
        return made

    def processor() -> Any:
        made = family.processor()
        made.image_processor.patch_size = made.video_processor.patch_size = PATCH
        return made

    return replace(family, config=config, processor=processor)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_task(tmp_path_factory.mktemp("needle")))


@pytest.fixture(scope="module")
def manager(task: str) -> Any:
    from lmms_eval.tasks import TaskManager

    return TaskManager("WARNING", include_path=task, model_name="default")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    made: dict[str, str] = {}

    def of(name: str) -> str:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                if name == "qwen3_vl":
                    patch.setitem(tiny.FAMILIES, name, _patches_of_16(tiny.FAMILIES[name]))
                tiny.save_checkpoint(name, folder)
            made[name] = str(folder)
        return made[name]

    return of


@pytest.fixture
def evaluate(checkpoint: Callable[[str], str], manager: Any) -> Callable[..., tuple[list[str], dict[str, float]]]:
    """Answers and our logged numbers of a run through lmms-eval's registry and evaluator."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model

    def run(name: str, simple: bool = False, **method: Any) -> tuple[list[str], dict[str, float]]:
        family, options = MODELS[name]
        model_id = name if name == "framefusion_hf" else f"{name}_framefusion"
        made = get_model(model_id, force_simple=simple)
        model = made(pretrained=checkpoint(family), device="cpu", **options, **method)
        found = simple_evaluate(model=model, tasks=[TASK], task_manager=manager, bootstrap_iters=0, verbosity="ERROR")
        answers = [row["filtered_resps"][0] for row in found["samples"][TASK]]
        prefix = "avg_framefusion_"
        return answers, {k.removeprefix(prefix): v for k, v in found["throughput"].items() if k.startswith(prefix)}

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_wrapper_runs_dense_and_reduced(name: str, evaluate: Callable[..., Any]):
    dense, before = evaluate(name, method="dense")
    reduced, after = evaluate(name, method="fastv", keep=0.5, layer=1)
    assert len(dense) == len(reduced) == 4 and all(dense) and all(reduced)
    assert before["visual_tokens"] == after["visual_tokens"] > 0
    assert before["kept_fraction"] == before["cost"] == 1.0
    assert after["kept_fraction"] == pytest.approx(0.5, abs=0.02)
    assert after["cost"] == pytest.approx(0.625, abs=0.02)
    assert (after["prompts"], after["failed"]) == (4, 0)
    assert after["prefill_ms_median"] > 0
    assert dense != reduced
    narrow, fewer = evaluate(name, method="dense", quantize="weights:sim2+kv:sim2+group:16")
    assert len(narrow) == 4 and narrow != dense and fewer["failed"] == 0
    # Two bits, and for each group of 16 values a scale and a least value: 4 bits, of the 16 or 32 a wrapper loads.
    ratio = fewer["kv_bytes"] / before["kv_bytes"]
    assert min(abs(ratio / expected - 1) for expected in (4 / 16, 4 / 32)) < 0.05
    assert fewer["weight_bytes"] < before["weight_bytes"] and after["kv_bytes"] < before["kv_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMPLE)
def test_the_simple_classes_run_too(name: str, evaluate: Callable[..., Any]):
    answers, numbers = evaluate(name, simple=True, method="framefusion", cost=0.3)
    assert len(answers) == 4 and 0.2 < numbers["cost"] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dense", "random"])
def test_a_quantised_model_answers_as_framefusion_run_does(
    method: str, evaluate: Callable[..., Any], checkpoint: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
):
    from framefusion import Random
    from framefusion.cli.opening import open_checkpoint
    from framefusion.inference.answer.answer import ask
    from framefusion.inference.quantization import Precision
    from framefusion.integrations.lmms import any_checkpoint

    prompts: list[Any] = []
    real = any_checkpoint.build_prompt
    monkeypatch.setattr(any_checkpoint, "build_prompt", lambda *given: prompts.append(real(*given)) or prompts[-1])
    options = {} if method == "dense" else {"keep": 0.5}
    words = "weights:sim4+activations:sim8+kv:sim4+group:16"
    answers, _ = evaluate("framefusion_hf", method=method, quantize=words, **options)
    precision = Precision.parse("weights=sim4,activations=sim8,kv=sim4,group=16")
    same = open_checkpoint(checkpoint("qwen2_5_vl"), "auto", "cpu", precision=precision)
    chosen = None if method == "dense" else Random(keep=0.5)
    assert answers == [ask(same, inputs, chosen, NEW_TOKENS).text for inputs in prompts] and len(prompts) == 4


@pytest.mark.slow
def test_dense_through_our_wrapper_answers_as_the_one_of_lmms_eval(
    evaluate: Callable[..., Any], checkpoint: Callable[[str], str], manager: Any
):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model

    own = get_model("qwen2_5_vl")(pretrained=checkpoint("qwen2_5_vl"), device="cpu", **QWEN)
    found = simple_evaluate(model=own, tasks=[TASK], task_manager=manager, bootstrap_iters=0, verbosity="ERROR")
    expected = [row["filtered_resps"][0] for row in found["samples"][TASK]]
    assert evaluate("qwen2_5_vl", method="dense")[0] == expected


@pytest.mark.slow
def test_the_command_of_lmms_eval_finds_the_model_and_logs_the_numbers(
    task: str, checkpoint: Callable[[str], str], tmp_path: Path
):
    from importlib.metadata import entry_points

    if not any(entry.name == "framefusion" for entry in entry_points(group="lmms_eval.models")):
        pytest.skip("framefusion is not installed here with its entry points, only on the path")
    options = ",".join(f"{key}={value}" for key, value in QWEN.items())
    words = f"pretrained={checkpoint('qwen2_5_vl')},device=cpu,{options},method=framefusion,cost=0.3"
    command = [sys.executable, "-m", "lmms_eval", "--model", "qwen2_5_vl_framefusion", "--model_args", words]
    command += [
        "--tasks",
        TASK,
        "--include_path",
        task,
        "--limit",
        "2",
        "--output_path",
        str(tmp_path),
        "--log_samples",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (results,) = tmp_path.rglob("*_results.json")
    found = json.loads(results.read_text())
    assert done.returncode == 0 and f"{TASK}" in found["results"]
    assert 0.2 < found["throughput"]["avg_framefusion_cost"] < 0.5
    assert found["throughput"]["avg_framefusion_prefill_ms"] > 0
    assert "cost=0.3" in found["config"]["model_args"]


@pytest.mark.slow
def test_one_command_compares_dense_and_reduced(
    task: str, checkpoint: Callable[[str], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    from framefusion.cli.app import run_app

    arguments = ["lmms-eval", "--model", "framefusion_hf", "--tasks", TASK, "--include-path", task, "--json"]
    arguments += ["--model-args", f"pretrained={checkpoint('qwen2_5_vl')},device=cpu,frames={FRAMES}"]
    arguments += ["--method", "random", "--keep", "0.25", "--set", "seed=1", "--out", str(tmp_path)]
    assert run_app(arguments) == 0
    found = json.loads(capfd.readouterr().out)
    (row,) = found["tasks"]
    assert (row["task"], row["metric"], row["paired"]["n"], row["unpaired"]) == (TASK, "needle_accuracy", 4, 0)
    assert found["reduced"]["kept_fraction"] == pytest.approx(0.25, abs=0.02)
    assert found["dense"]["cost"] == 1.0 and found["prefill_ratio"] > 0
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(f"{TASK}.json")}
    assert len(stamps) == 2
    assert run_app(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob(f"{TASK}.json")} == stamps


@pytest.mark.slow
def test_one_command_studies_tokens_and_bits_and_runs_nothing_twice(
    task: str, checkpoint: Callable[[str], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    from framefusion.cli.app import run_app
    from framefusion.evaluation.study.page import BEGIN, END
    from framefusion.evaluation.study.rows import read_rows

    page, rows = tmp_path / "page.md", tmp_path / "rows.jsonl"
    page.write_text(f"{BEGIN}\n{END}\n")
    words = f"pretrained={checkpoint('qwen2_5_vl')},device=cpu,frames={FRAMES}"
    arguments = ["study", "--tasks", TASK, "--model", "framefusion_hf", "--model-args", words, "--include-path", task]
    arguments += ["--methods", "random:seed=1,fastv:layer=1", "--budgets", "1.0,0.5", "--weights", "16", "--kv", "16,4"]
    arguments += ["--activations", "16", "--limit", "2", "--rows", str(rows), "--page", str(page)]
    assert run_app([*arguments, "--out", str(tmp_path / "kept")]) == 0
    found = {row.id: row for row in read_rows(rows.read_text())}
    assert list(found)[:3] == ["dense 1 W16 A16 KV16", "random 0.5 W16 A16 KV16", "fastv 0.5 W16 A16 KV16"]
    assert len(found) == 6 and "dense 1 W16 A16 KV4*" in found
    dense, fewer, narrow = (
        found[f"{name} W16 A16 KV{kv}"] for name, kv in (("dense 1", "16"), ("random 0.5", "16"), ("dense 1", "4*"))
    )
    assert dense.questions == 2 and set(dense.tasks) == {TASK} and dense.against.difference.value == 0
    assert fewer.cost == pytest.approx(0.5, abs=0.05) and fewer.kv_bytes < dense.kv_bytes
    assert found["fastv 0.5 W16 A16 KV16"].cost == pytest.approx(0.625, abs=0.02)
    assert narrow.kv_bytes == pytest.approx(dense.kv_bytes * 6 / 16, rel=0.02)
    assert dense.weight_bytes == narrow.weight_bytes > 0
    assert dense.prefill_ms is not None and narrow.prefill_ms is None
    assert all(f"`{id}`" in page.read_text() for id in found)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.json")}
    text = rows.read_text()
    assert len(stamps) == 2 * 6
    assert run_app([*arguments, "--out", str(tmp_path / "kept")]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.json")} == stamps
    assert rows.read_text() == text
    capfd.readouterr()
    assert run_app(["study", "--tasks", "videomee", *arguments[3:], "--out", str(tmp_path / "kept")]) == 2
    assert "no task `videomee`" in capfd.readouterr().err


@pytest.mark.slow
def test_what_is_wrong_is_said_by_the_half_and_the_command(
    task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    from framefusion.cli.app import run_app

    arguments = ["lmms-eval", "--model", "framefusion_hf", "--model-args", "pretrained=nowhere", "--tasks", "videomee"]
    assert run_app([*arguments, "--include-path", task, "--out", str(tmp_path)]) == 2
    seen = capfd.readouterr().err
    assert "no task `videomee`" in seen and "the dense half ended with exit code 2" in seen
