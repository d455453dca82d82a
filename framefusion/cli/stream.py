"""`framefusion stream`: watch a file, a folder, a pipe, a network stream or a camera, and answer at any time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
)
from framefusion.cli.stream_output import Display, JsonLines, Output
from framefusion.core.destination import check_file
from framefusion.core.errors import OptionError
from framefusion.core.options import Count, Interval, checked
from framefusion.inference.live import Notice
from framefusion.inference.live.schedule import Schedule, seconds_of
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.inference.live import LiveSource
    from framefusion.inference.quantization.precision import Precision
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


def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="Video file, folder that grows, `-` for a pipe, address (rtsp://…, http://…, tcp://…) or camera.",
            show_default=False,
        ),
    ],
    model: ModelOption = TINY,
    ask: Annotated[list[str] | None, typer.Option(help="Question, asked at the end. May be repeated.")] = None,
    ask_every: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Ask so often during the stream, too.")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option(AT, metavar="TIME QUESTION", help='Ask once, as in --at 00:12:30 "Who came?".')
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames per second that are read.")] = 1.0,
    memory: Annotated[str, typer.Option(help="Tokens per layer, or bytes as in 512MiB.")] = "4096",
    policy: Annotated[str, typer.Option(help="What stays when that is full.")] = "infinipot",
    window: Annotated[int, typer.Option(help="Frames that are read at a time.")] = 16,
    method: Annotated[
        str | None, typer.Option(help="Reduce each window by this method, see `framefusion methods`.")
    ] = None,
    cost: CostOption = 0.3,
    settings: SettingsOption = None,
    resume: Annotated[Path | None, typer.Option(metavar="TAPE", help="Go on from a tape of --save.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="TAPE", help="Write the memory here, at the end or Ctrl-C.")
    ] = None,
    patience: Annotated[float, typer.Option(metavar="SECONDS", help="Say that the source stalls.")] = 5.0,
    give_up: Annotated[
        float, typer.Option(metavar="SECONDS", help="Without a frame for so long, the source has ended.")
    ] = 60.0,
    max_side: Annotated[int | None, typer.Option(help="Shrink frames with more pixels along a side.")] = None,
    max_new_tokens: NewTokensOption = 64,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    quantize: QuantizeOption = None,
    attention: AttentionOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each event on stdout.")] = False,
) -> None:
    """Watch SOURCE for as long as it lasts in constant memory, and answer questions at any time.

    Example: framefusion stream rtsp://camera/door --memory 512MiB --ask "Who is at the door?" --ask-every 60
    """
    questions = schedule(ask or [], ask_every, at or [])
    chosen = None if method is None else build_method(method, cost, settings or [])
    if method is None and settings:
        raise OptionError("--set is an option of a method", hint="name it with --method")
    check_run(dtype, max_new_tokens, device)
    room = _checked_memory(memory, policy, window)
    of_model, of_memory = _split(read_precision(quantize, attention))
    _check_tapes(resume, save)
    from framefusion.inference.live import open_source

    with ExitStack() as stack:
        opened = stack.enter_context(
            open_source(source, fps=fps, patience=patience, give_up=give_up, max_side=max_side)
        )
        with working_on(f"opening {opened.name}"):
            opened.wait()
        quiet_libraries()
        checkpoint = open_checkpoint(model, dtype, device, trust_remote_code, of_model, attention)
        import framefusion as ff

        if chosen is not None:
            chosen = chosen.for_family(checkpoint.family)
        video = stack.enter_context(
            ff.stream(
                checkpoint.model,
                checkpoint.processor,
                method=chosen,
                memory=room,
                policy=policy,
                window=window,
                quantization=of_memory,
                resume=resume,
            )
        )
        output = stack.enter_context(JsonLines() if json else Display())
        named = None if chosen is None else {"name": chosen.facts.name, **chosen.options()}
        settled = {"method": named, "policy": policy, "memory": memory, "window": window, "fps": fps}
        output.start({"source": opened.name, "model": checkpoint.name, "family": checkpoint.family.name, **settled})
        interrupted = watch(opened, video, questions, output, save, max_new_tokens)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def schedule(ask: list[str], every: float | None, at: list[str]) -> Schedule:
    """What is asked when. Raises OptionError."""
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


def _checked_memory(memory: str, policy: str, window: int) -> int | str:
    """What the stream is given as `memory`. Raises FrameFusionError before a model is loaded."""
    from framefusion.inference.stream.budget import parse
    from framefusion.inference.stream.session import policy_of

    checked("--window", Count, window, "16 frames are read at a time by default")
    policy_of(policy)
    parse(room := int(memory) if memory.isdigit() else memory)
    return room


def _check_tapes(resume: Path | None, save: Path | None) -> None:
    """Raises OptionError before a model is loaded."""
    if resume is not None and not resume.is_file():
        raise OptionError(f"{resume} is no tape", "there is no such file", "give --resume a tape that --save wrote")
    if save is not None:
        check_file(save, "--save")
