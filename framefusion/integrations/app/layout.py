"""The page, of Gradio's parts: what to ask on the left, answers and the token map on the right."""

from __future__ import annotations

from importlib.resources import files

import gradio as gr

from framefusion.core.registry import methods
from framefusion.inference.tiny import NAME as TINY
from framefusion.integrations.app.events import READING, Events, Shown
from framefusion.integrations.app.examples import examples
from framefusion.integrations.app.limits import KEPT_SECONDS, QUESTION

# Those of the system: nothing is fetched from elsewhere.
FONT, MONO = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"), ("ui-monospace", "monospace")
KINDS = ["video", "image"]


def theme() -> gr.themes.Base:
    return gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=list(FONT), font_mono=list(MONO))


def style() -> str:
    return (files("framefusion.integrations.app") / "page" / "app.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """A function of page/, in JavaScript."""
    return (files("framefusion.integrations.app") / "page" / f"{name}.js").read_text(encoding="utf-8")


def build(events: Events) -> gr.Blocks:
    """The page of these events."""
    with gr.Blocks(
        title="FrameFusion", analytics_enabled=False, fill_width=True, delete_cache=(60, KEPT_SECONDS)
    ) as page:
        gr.HTML("<h1>FrameFusion</h1><p>One question, answered by the whole model and with fewer visual tokens.</p>")
        # The style puts settings below the question, on narrow screens below the answers.
        with gr.Row(elem_id="ff-columns"):
            with gr.Column(elem_id="ff-asking"):
                parts = _asking(events)
            with gr.Column(elem_id="ff-results"):
                shown = Shown(*(gr.HTML(elem_id=f"ff-{name}") for name in ("status", "answers", "took", "map")))
            with gr.Column(elem_id="ff-settings"):
                parts |= _settings(events)
        _connect(page, events, parts, shown)
    return page


def _asking(events: Events) -> dict[str, gr.components.Component]:
    usual, limits = events.usual, events.limits
    size = f"{limits.upload / 2**20:.0f} MiB"
    parts: dict[str, gr.components.Component] = {
        "source": gr.State(None),
        "file": gr.File(label=f"Video or picture, up to {size}", file_types=KINDS, height=150, elem_id="ff-file"),
        "address": gr.Textbox(
            label="Or its address",
            placeholder="https://",
            max_lines=1,
            visible=not events.offline,
            elem_id="ff-address",
        ),
        "clip": gr.HTML(elem_id="ff-clip"),
        "question": gr.Textbox(
            usual.question, label="Question", lines=2, max_length=QUESTION, elem_id="ff-question", submit_btn=False
        ),
    }
    with gr.Row():
        parts["ask"] = gr.Button("Ask", variant="primary", min_width=120, elem_id="ff-ask")
        parts["stop"] = gr.Button("Stop", min_width=120, elem_id="ff-stop")
    if TINY in events.checkpoints:
        asked = [[sample.question] for sample in examples()]
        parts["examples"] = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=asked,
            type="index",
            label=f"Examples for {TINY}",
            elem_id="ff-examples",
        )
    return parts


def _settings(events: Events) -> dict[str, gr.components.Component]:
    usual, names = events.usual, list(events.checkpoints)
    budget, frames = "Budget: the method's cost, or the share of tokens it keeps", "Frames, evenly over the clip"
    return {
        "model": gr.Dropdown(names, value=usual.model, label="Model", interactive=len(names) > 1, elem_id="ff-model"),
        "method": gr.Dropdown(list(methods.names()), value=usual.method, label="Method", elem_id="ff-method"),
        "about": gr.HTML(events.about(usual.method), elem_id="ff-about"),
        "budget": gr.Slider(0.05, 1, usual.budget, step=0.05, label=budget, elem_id="ff-budget"),
        "frames": gr.Slider(1, events.limits.frames, usual.frames, step=1, label=frames, elem_id="ff-frames"),
        "link": gr.Button("Copy link with these settings", size="sm", elem_id="ff-link"),
    }


def _connect(page: gr.Blocks, events: Events, parts: dict[str, gr.components.Component], shown: Shown) -> None:
    private = {"api_visibility": "private"}
    silent = {"show_progress": "hidden", **private}
    settings = [parts[name] for name in ("model", "method", "budget", "frames", "question")]
    reading = {"concurrency_id": READING, "concurrency_limit": 1, "show_progress_on": [parts["clip"]], **private}
    page.load(events.opened, None, [*settings, parts["about"], shown.status], queue=False, **silent)
    page.unload(events.left)
    parts["file"].upload(
        events.dropped, [parts["file"], parts["frames"]], [parts["file"], parts["source"], parts["clip"]], **reading
    )
    if not events.offline:
        found = [parts["source"], parts["clip"]]
        parts["address"].submit(events.addressed, [parts["address"], parts["frames"]], found, **reading)
    if "examples" in parts:
        chosen = [parts[name] for name in ("source", "clip", "question", "model", "frames")]
        parts["examples"].click(events.example, parts["examples"], chosen, queue=False, **private)
    parts["method"].change(events.about, parts["method"], parts["about"], queue=False, **silent)
    asked = gr.on(
        [parts["ask"].click, parts["question"].submit],
        events.asked,
        [parts["source"], *settings],
        list(shown),
        show_progress_on=[shown.status],
        concurrency_id="model",
        concurrency_limit=1,
        trigger_mode="once",
        **private,
    )
    parts["stop"].click(None, None, None, cancels=[asked], queue=False, **private)
    changes = [part.change for part in settings]
    gr.on(changes, None, settings, None, js=script("keep"), queue=False, **silent)
    parts["link"].click(None, None, parts["link"], js=script("copy"), queue=False, **silent)
