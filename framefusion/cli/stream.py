"""`framefusion stream`: watch a file, a folder, a pipe, a network stream or a camera, and answer at any time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from framefusion.cli.console import quiet_libraries, working_on
from framefusion.cli.opening import check_run, open_checkpoint, read_precision
from framefusion.cli.options import (
    AttentionOption,
    CostOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    NewTokensOption,
    QuantizeOption,
    SettingsOption,
    TrustOption,
    build_method,
    settings_from,
)
from framefusion.cli.stream_output import Display, JsonLines, Output
from framefusion.core.destination import check_file
from framefusion.core.errors import OptionError
from framefusion.core.options import Count, Interval, checked
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.live import LiveSource
    from framefusion.inference.live.schedule import Schedule
    from framefusion.inference.quantization.precision import Precision
    from framefusion.inference.stream.policies import Policy
    from framefusion.inference.stream.session import VideoStream

INTERRUPTED = 130
AT = "--at"


class WithPairs(TyperCommand):
    """A command whose option `--at` takes two words, any number of times, which typer cannot say."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            joined.append(word)
            if word == "--":
                break
            if word == AT and len(rest) > 1 and not rest[0].strip().count(" "):
                joined.append(f"{rest.pop(0)} {rest.pop(0)}")
        return super().parse_args(ctx, joined + rest)


SourceArgument = Annotated[
    str,
    typer.Argument(
        help="Video file, folder that grows, `-` for a pipe, address (rtsp://…, http://…, tcp://…) or camera.",
        show_default=False,
    ),
]
AskOption = Annotated[list[str] | None, typer.Option(help="Question, asked at the end. May be repeated.")]
EveryOption = Annotated[float | None, typer.Option(metavar="SECONDS", help="Ask so often during the stream, too.")]
AtOption = Annotated[
    list[str] | None,
    typer.Option(AT, metavar="TIME QUESTION", help='Ask once, as in --at 00:12:30 "Who came?". May be repeated.'),
]
RateOption = Annotated[float, typer.Option(help="Frames per second that are read.")]
MemoryOption = Annotated[str, typer.Option(help="Tokens per layer, or bytes as in 512MiB.")]
PolicyOption = Annotated[str, typer.Option(help="What stays when that is full.")]
PolicySettingsOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the policy. May be repeated.")
]
WindowOption = Annotated[int, typer.Option(help="Frames that are read at a time.")]
RecentOption = Annotated[
    int, typer.Option(metavar="FRAMES", help="Newest frames that questions read anew, as in a prompt of their own.")
]
ContextOption = Annotated[
    int | None, typer.Option(metavar="TOKENS", help="Read each window with the latest tokens only; all by default.")
]
SpanOption = Annotated[
    int | None,
    typer.Option(metavar="POSITIONS", help="Ask with the memory drawn together in time; as it was by default."),
]
ReducedOption = Annotated[str | None, typer.Option(help="Reduce each window by a method of `framefusion methods`.")]
ResumeOption = Annotated[Path | None, typer.Option(metavar="TAPE", help="Go on from a tape of --save.")]
SaveOption = Annotated[Path | None, typer.Option(metavar="TAPE", help="Write the memory here, at the end or Ctrl-C.")]
PatienceOption = Annotated[float, typer.Option(metavar="SECONDS", help="Then the source is said to stall.")]
GiveUpOption = Annotated[float, typer.Option(metavar="SECONDS", help="Without a frame for so long, it has ended.")]
SideOption = Annotated[int | None, typer.Option(help="Shrink frames with more pixels along a side.")]
LinesOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON for each event on stdout.")]


def stream(
    source: SourceArgument,
    model: ModelOption = TINY,
    ask: AskOption = None,
    ask_every: EveryOption = None,
    at: AtOption = None,
    fps: RateOption = 1.0,
    memory: MemoryOption = "4096",
    policy: PolicyOption = "infinipot",
    policy_set: PolicySettingsOption = None,
    window: WindowOption = 16,
    recent: RecentOption = 0,
    context: ContextOption = None,
    span: SpanOption = None,
    method: ReducedOption = None,
    cost: CostOption = 0.3,
    settings: SettingsOption = None,
    resume: ResumeOption = None,
    save: SaveOption = None,
    patience: PatienceOption = 5.0,
    give_up: GiveUpOption = 60.0,
    max_side: SideOption = None,
    max_new_tokens: NewTokensOption = 64,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    quantize: QuantizeOption = None,
    attention: AttentionOption = None,
    json: LinesOption = False,
) -> None:
    """Watch SOURCE for as long as it lasts in constant memory, and answer questions at any time.

    Example: framefusion stream rtsp://camera/door --memory 512MiB --ask "Who is at the door?" --ask-every 60
    """
    questions = schedule(ask or [], ask_every, at or [])
    chosen = _chosen(method, cost, settings or [])
    check_run(dtype, max_new_tokens, device)
    of_model, of_memory = _split(read_precision(quantize, attention))
    room, keeping = _checked_memory(memory, window, recent, context, span), _policy(policy, policy_set or [])
    _check_tapes(resume, save)
    with _opened(source, fps, patience, give_up, max_side) as opened:
        checkpoint = open_checkpoint(model, dtype, device, trust_remote_code, of_model, attention)
        chosen = None if chosen is None else chosen.for_family(checkpoint.family)
        settled = {"method": chosen, "memory": room, "policy": keeping, "window": window, "context": context}
        settled |= {"recent": recent, "span": span, "quantization": of_memory}
        with _stream(checkpoint, resume, settled) as video, JsonLines() if json else Display() as output:
            told = {"method": _named(chosen), "policy": policy, "policy_options": asdict(keeping)}
            output.start({**_facts(opened, checkpoint), **settled, **told})
            interrupted = watch(opened, video, questions, output, save, max_new_tokens)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _chosen(method: str | None, cost: float, settings: list[str]) -> Method | None:
    """What reduces each window, None for nothing. Raises OptionError."""
    if method is None and settings:
        raise OptionError("--set is an option of a method", hint="name it with --method")
    return None if method is None else build_method(method, cost, settings)


@contextmanager
def _opened(source: str, fps: float, patience: float, give_up: float, max_side: int | None) -> Iterator[LiveSource]:
    """The source, once it is open."""
    from framefusion.inference.live import open_source

    with open_source(source, fps=fps, patience=patience, give_up=give_up, max_side=max_side) as opened:
        with working_on(f"opening {opened.name}"):
            opened.wait()
        quiet_libraries()
        yield opened


def _stream(checkpoint: Checkpoint, resume: Path | None, settled: dict[str, Any]) -> VideoStream:
    from framefusion.inference.stream.session import stream

    return stream(checkpoint.model, checkpoint.processor, resume=resume, **settled)


def _facts(opened: LiveSource, checkpoint: Checkpoint) -> dict[str, Any]:
    return {"source": opened.name, "fps": opened.fps, "model": checkpoint.name, "family": checkpoint.family.name}


def _named(method: Method | None) -> dict[str, Any] | None:
    return None if method is None else {"name": method.facts.name, **method.options()}


def schedule(ask: list[str], every: float | None, at: list[str]) -> Schedule:
    """What is asked when. Raises OptionError."""
    from framefusion.inference.live.schedule import Schedule, seconds_of

    every = checked("--ask-every", Annotated[float, Interval("(0, inf)")] | None, every, "seconds of the stream")
    if every is not None and not ask:
        raise OptionError("--ask-every asks nothing", hint='give the question as --ask "..."')
    once = []
    for words in at:
        time, _, question = words.strip().partition(" ")
        if not question.strip():
            raise OptionError(f"`{AT} {words}` names no question", hint=f'write {AT} 00:12:30 "What happened?"')
        once.append((seconds_of(time), question.strip()))
    return Schedule(ask, every, once)


def watch(
    source: LiveSource, video: VideoStream, questions: Schedule, output: Output, save: Path | None, new_tokens: int
) -> bool:
    """Feed the source to the stream until it ends; whether Ctrl-C ended it. The tape is saved whatever happens."""
    from framefusion.inference.live import Notice

    already = video.status
    start = already.seconds_seen + 1 / source.fps if already.frames_seen else 0.0
    questions.begin(already.seconds_seen if already.frames_seen else -1.0)

    def answer(asked: list[str]) -> None:
        for question in asked:
            output.answer(question, video.ask(question, max_new_tokens=new_tokens))

    try:
        with ending_on_signals(source) as interrupted:
            windows = already.windows
            for item in source:
                if isinstance(item, Notice):
                    output.notice(item, video.status.seconds_seen)
                    continue
                video.feed(item.picture[None], [start + item.seconds])
                if video.status.windows > windows:
                    windows = video.status.windows
                    output.status(video.status)
                answer(questions.due(start + item.seconds))
    finally:
        if save is not None and video.status.frames_seen:
            video.save(save)
            output.saved(str(save))
    if video.status.frames_seen:
        answer(questions.rest(video.status.seconds_seen))
    output.end(video.status, interrupted.is_set())
    return interrupted.is_set()


@contextmanager
def ending_on_signals(source: LiveSource) -> Iterator[threading.Event]:
    """Within the block Ctrl-C and SIGTERM let the source end; a second one interrupts. Tells whether one came."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def end(number: int, frame: Any) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()
        source.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _split(precision: Precision | None) -> tuple[Precision | None, str | None]:
    """What is done to the model itself, and what to the memory, in words."""
    if precision is None or precision.kv.full:
        return precision, None
    of_model = precision.without_cache
    of_memory = type(precision)(kv=precision.kv, kv_group=precision.kv_group, cache=precision.cache)
    return None if of_model.full else of_model, str(of_memory)


def _checked_memory(memory: str, window: int, recent: int, context: int | None, span: int | None) -> int | str:
    """What the stream is given as `memory`. Raises FrameFusionError before a model is loaded."""
    from framefusion.inference.stream.budget import parse
    from framefusion.inference.stream.session import Recent, Span

    checked("--window", Count, window, "16 frames are read at a time by default")
    checked("--recent", Recent, recent, "none are read anew by default")
    checked("--context", Count | None, context, "all that is kept is read by default")
    checked("--span", Span | None, span, "positions are left as they are by default")
    parse(room := int(memory) if memory.isdigit() else memory)
    return room


def _policy(name: str, settings: list[str]) -> Policy:
    """What stays in memory. Raises FrameFusionError before a model is loaded."""
    from framefusion.inference.stream.policies import policy_of

    return policy_of(name, settings_from(settings, "--policy-set"))


def _check_tapes(resume: Path | None, save: Path | None) -> None:
    """Raises OptionError before a model is loaded."""
    if resume is not None and not resume.is_file():
        raise OptionError(f"{resume} is no tape", "there is no such file", "give --resume a tape that --save wrote")
    if save is not None:
        check_file(save, "--save")
