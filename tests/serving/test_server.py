"""vLLM's own server, started by `framefusion serve` and asked by OpenAI's own client, beside one without the plugin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from framefusion.core.options import options_of
from framefusion.core.registry import method as method_class
from framefusion.inference.video import write_clip
from framefusion.integrations.vllm.command import stock_command
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.settings import Settings
from tests.serving import clips
from tests.serving.server import Server, content_of

pytest.importorskip("vllm", reason="vLLM is not installed; `make test-serving` sets it up")

KEEP = 0.5
TOKENS, PICTURE = 64, 16


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_clip(path, clips.moving(8), fps=clips.FPS)
    return path


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(clips.moving(1)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def servers(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """One that reduces, and stock vLLM."""
    folder, logs = str(checkpoints["qwen2_5_vl"]), tmp_path_factory.mktemp("logs")
    ours = [sys.executable, "-m", "framefusion", "serve", folder, "--keep", str(KEEP), "--set", "pictures=divprune"]
    running = [
        Server(ours, logs / "reduced", VLLM_CPU_KVCACHE_SPACE="1"),
        Server(stock_command(folder), logs / "stock", VLLM_CPU_KVCACHE_SPACE="1", VLLM_PLUGINS=""),
    ]
    try:
        yield running[0].wait(), running[1].wait()
    finally:
        for server in running:
            server.stop()


def test_a_video_costs_fewer_prompt_tokens(servers, video):
    reduced, stock = (server.ask(video, "What is there?") for server in servers)
    assert stock.usage.prompt_tokens - reduced.usage.prompt_tokens == TOKENS - KEEP * TOKENS
    assert reduced.choices[0].message.content is not None
    assert reduced.usage.completion_tokens > 0


def test_a_picture_costs_fewer_prompt_tokens(servers, picture):
    reduced, _ = servers
    before = reduced.visual_tokens()
    answers = [server.ask(picture, "What is there?") for server in servers]
    used = [answer.usage.prompt_tokens_details.model_extra["multimodal_tokens"] for answer in answers]
    assert used == [{"image": KEEP * PICTURE}, {"image": PICTURE}]
    after = reduced.visual_tokens()
    gained = {stage: after[stage] - before.get(stage, 0.0) for stage in after}
    assert gained == {"in": PICTURE, "kept": KEEP * PICTURE}
    own = {"mm_processor_kwargs": {"visual_reduction": {"pictures": False}}}
    whole = reduced.ask(picture, "What is there?", **own).usage.prompt_tokens
    assert whole == answers[1].usage.prompt_tokens


def test_a_request_sets_its_own_budget(servers, video):
    def ask(**settings):
        return servers[0].ask(video, "What?", mm_processor_kwargs={"visual_reduction": settings}).usage.prompt_tokens

    assert ask(keep=1.0) - ask(keep=0.25) == TOKENS * 3 // 4


def test_visual_tokens_are_counted(servers, video):
    """Also where the clip comes from a cache, and not where the plugin is off."""
    reduced, stock = servers
    reduced.ask(video, "Counted?")
    before = reduced.visual_tokens()
    for question in ("Counted?", "Counted again?"):
        reduced.ask(video, question)
    reduced.ask(video, "And with more?", mm_processor_kwargs={"visual_reduction": {"keep": 1.0}})
    after = reduced.visual_tokens()
    assert after["in"] - before["in"] == 3 * TOKENS
    assert after["kept"] - before["kept"] == (2 * KEEP + 1) * TOKENS
    stock.ask(video, "Counted?")
    assert not stock.visual_tokens()


def test_usage_says_what_a_video_takes(servers, video):
    reduced, stock = (server.ask(video, "How many?").usage.prompt_tokens_details.model_extra for server in servers)
    assert reduced["multimodal_tokens"] == {"video": KEEP * TOKENS}
    assert stock["multimodal_tokens"] == {"video": TOKENS}


def test_a_wrong_request_is_the_clients_mistake(servers, video):
    from openai import BadRequestError

    with pytest.raises(BadRequestError, match="fastv"):
        servers[0].ask(video, "What?", mm_processor_kwargs={"visual_reduction": {"method": "fastv"}})
    assert servers[0].ask(video, "Still there?").usage.completion_tokens > 0


HOSTILE = (2.5, True, float("nan"), 1e30, "", None, [])


def served_options():
    """Every option a request may give, of every served method."""
    unlisted = {"framefusion": set(), "pixel_prune": {"threshold"}}
    for method in RULES:
        own = unlisted[method] if method in unlisted else set(options_of(method_class(method)))
        for option in sorted({*options_of(Settings), *own} - {"options"}):
            yield method, option


@pytest.mark.parametrize(("method", "option"), served_options())
def test_no_value_of_an_option_stops_the_server(servers, video, picture, method, option):
    for value in HOSTILE:
        settings, shown = {"method": method, option: value}, video
        if RULES[method].within:
            settings, shown = {"pictures": settings}, picture
        status, body = servers[0].post(
            content_of(shown, "What?"), mm_processor_kwargs={"visual_reduction": settings}, seed=0
        )
        assert status in (200, 400), (settings, status, body)
        assert status == 200 or "Traceback" not in body
        status, body = servers[0].post([{"type": "text", "text": "Still there?"}])
        assert status == 200, (settings, body)
