"""`framefusion run`: ask a question about pictures and videos."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from framefusion.cli.console import JSON_OPTION, note, print_json, quiet_libraries, say
from framefusion.cli.media import (
    ABOUT,
    FrameRateOption,
    OfflineOption,
    described,
    media_and_question,
    read_media,
    reading_of,
)
from framefusion.cli.opening import check_run, open_checkpoint, read_precision
from framefusion.cli.options import (
    AdapterOption,
    AttentionOption,
    CostOption,
    DeviceOption,
    DtypeOption,
    FpsOption,
    FramesOption,
    ModelOption,
    NewTokensOption,
    QuantizeOption,
    RecommendedOption,
    ReducerOption,
    SettingsOption,
    TowerOption,
    TrustOption,
    behind_tower,
    build_recommended,
    method_of,
    with_reducer,
)
from framefusion.inference.tiny import NAME as TINY

if TYPE_CHECKING:
    from framefusion.core.method import Method
    from framefusion.inference.answer.checkpoint import Checkpoint
    from framefusion.inference.video import Clip


def run(
    words: Annotated[
        list[str],
        typer.Argument(metavar="MEDIA... QUESTION", help=f"{ABOUT}; then what to ask.", show_default=False),
    ],
    model: ModelOption = TINY,
    method: RecommendedOption = None,
    reducer: ReducerOption = None,
    cost: CostOption = 0.3,
    settings: SettingsOption = None,
    tower: TowerOption = None,
    frames: FramesOption = 64,
    fps: FpsOption = None,
    frame_rate: FrameRateOption = 1.0,
    max_new_tokens: NewTokensOption = 64,
    compare: Annotated[bool, typer.Option("--compare", help="Answer dense and reduced, side by side.")] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    trust_remote_code: TrustOption = False,
    quantize: QuantizeOption = None,
    attention: AttentionOption = None,
    adapter: AdapterOption = None,
    offline: OfflineOption = False,
    json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Answer QUESTION about MEDIA while the model reads fewer visual tokens.

    Example: framefusion run clip.mp4 "What happens?" --model Qwen/Qwen2.5-VL-3B-Instruct --cost 0.3 --compare
    """
    media, question = media_and_question(words)
    chosen = build_recommended(method_of(method, reducer), cost, settings or [], attention)
    chosen = behind_tower(tower, with_reducer(chosen, reducer, settings or [], model, cost))
    check_run(dtype, max_new_tokens, device)
    precision = read_precision(quantize, attention)
    reading = reading_of(frames, fps, frame_rate, offline)
    from framefusion.inference.answer.frame_size import ProcessorResize
    from framefusion.inference.media.load import check_names

    check_names(media)  # before a model is loaded for nothing
    quiet_libraries()
    checkpoint = open_checkpoint(model, dtype, device, trust_remote_code, precision, attention, adapter)
    resize = ProcessorResize.of(checkpoint)
    started = time.perf_counter()
    clips = read_media(media, reading, resize)
    read_ms = (time.perf_counter() - started) * 1e3
    answer_media(checkpoint, clips, question, chosen, max_new_tokens, compare, json, read_ms)


def answer_media(
    checkpoint: Checkpoint,
    media: tuple[Clip, ...],
    question: str,
    method: Method,
    new_tokens: int,
    compare: bool,
    as_json: bool,
    read_ms: float,
) -> None:
    """Print the answer, or both answers side by side. read_ms: what reading the media took."""
    from framefusion.inference.answer.prompt import build_prompt
    from framefusion.inference.tiny.known import remarks

    started = time.perf_counter()
    inputs = build_prompt(checkpoint, media, question)
    before = {"decode": read_ms, "processor": (time.perf_counter() - started) * 1e3}
    for message in [*method.notes(checkpoint.family), *remarks(checkpoint.name, media, question)]:
        note(message)
    method = method.for_family(checkpoint.family)
    document = {**_head(checkpoint, media, question, method), "before_ms": before}
    if compare:
        from framefusion.cli.compare import ratios, run_both, show
        from framefusion.inference.answer.answer import shows_times

        dense, reduced = run_both(checkpoint, inputs, method, new_tokens)
        timed = shows_times(checkpoint)
        document |= {"dense": dense.to_dict(), "reduced": reduced.to_dict(), "ratios": ratios(dense, reduced, timed)}
        if not as_json:
            show(dense, reduced, timed, before, question)
    else:
        from framefusion.inference.answer.answer import ask

        answer = ask(checkpoint, inputs, method, new_tokens, None if as_json else _streamer(checkpoint))
        document |= {"reduced": answer.to_dict()}
        if not as_json:
            lines = str(answer.report).splitlines()
            for line in lines[1 : 3 if answer.report is not None and answer.report.patches_dense else 2]:
                note(line)
    if as_json:
        print_json(document)


def _head(checkpoint: Checkpoint, media: tuple[Clip, ...], question: str, method: Method) -> dict[str, Any]:
    entries = [described(clip) for clip in media]
    return {
        "model": checkpoint.name,
        "family": checkpoint.family.name,
        "quantize": None if checkpoint.precision is None else str(checkpoint.precision),
        "method": {"name": method.facts.name, **method.options()},
        "media": entries,
        "video": entries[0] if len(media) == 1 and not media[0].still else None,
        "question": question,
    }


def _streamer(checkpoint: Checkpoint) -> Any:
    from framefusion.inference.answer.streaming import streamer_to

    return streamer_to(lambda text, last: say(text, end="\n" if last else ""), checkpoint.processor.tokenizer)
