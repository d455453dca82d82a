"""What a reduction saved and what it cost, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from framefusion.core.layout import Layout
    from framefusion.engine.trace import Clock, Decision, ForwardTrace


@dataclass(frozen=True)
class LayerReport:
    """One decoder layer, summed over the rows of the batch.

    visual_in: visual tokens its attention read. visual_out: those its MLP read. length_in, length_out: columns of the
    batch at the same places, text and padding included. kv_bytes: keys and values it keeps for the prompt,
    and the states of a convolution or recurrence. kv_bytes_dense: what it would keep without reduction.
    """

    layer: int
    visual_in: int
    visual_out: int
    length_in: int
    length_out: int
    kv_bytes: int
    kv_bytes_dense: int


@dataclass(frozen=True)
class StepReport:
    """One stage at one point, summed over the rows of the batch.

    method: name of the method the stage belongs to. point: where it acted, in words.
    """

    method: str
    point: str
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class PromptReport:
    """One prompt batch.

    visual_tokens: per row, as the prompt brought them. kept_tokens: per row, those alive after the last layer.
    cost: mean over layers of the visual tokens a layer's attention reads, as a fraction of all; row_costs: per row.
    steps: every stage that acted, in order. patches: that the vision tower encoded, and patches_dense: of all pictures;
    0 and 0 where no method decided that.
    """

    rows: int
    prompt_length: int
    visual_tokens: list[int]
    kept_tokens: list[int]
    kept_fraction: float
    cost: float
    row_costs: list[float]
    layers: list[LayerReport]
    kv_bytes: int
    kv_bytes_dense: int
    prefill_ms: float
    steps: list[StepReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    patches: int = 0
    patches_dense: int = 0


class Report:
    """Everything a reduction has seen since it was applied. `print` it, or take `to_dict()`.

    The prompt-wise attributes (`cost`, `kept_fraction`, `layers`, ...) speak of the latest prompt with visual tokens.
    `prompts`, `prompts_without_visual_tokens` and `decode_steps` count calls of the decoder.

    Args:
        method: the method in words.
        notes: what a reader should know besides.
        stages: name of the method behind each stage.

    Example:
        >>> with ff.reduce(model, ff.FastV(keep=0.5, layer=2)) as reduction:
        ...     answer = model.generate(**inputs, max_new_tokens=2)
        >>> report = reduction.report
        >>> report.prompts, report.visual_tokens, report.kept_tokens, report.kept_fraction
        (1, 512, 256, 0.5)
        >>> report.kv_bytes < report.kv_bytes_dense
        True
    """

    def __init__(self, method: str, notes: Sequence[str] = (), stages: Sequence[str] = ()) -> None:
        self.method = method
        self._stages = stages
        self.notes = list(notes)
        self.prompts = 0
        self.prompts_without_visual_tokens = 0
        self.decode_steps = 0
        self._seen: ForwardTrace | None = None
        self._decode: list[Clock] = []

    def add(self, trace: ForwardTrace) -> None:
        """Take in a forward pass of the decoder that is over, as its `trace` tells it."""
        if trace.reduces:
            self.prompts += 1
            self._seen = trace
            self._decode = []
        elif trace.length > 1 and not trace.past:
            self.prompts_without_visual_tokens += 1
        else:
            self.decode_steps += 1
            self._decode = [*self._decode[-255:], trace.clock]

    @property
    def last(self) -> PromptReport | None:
        """The latest prompt that had visual tokens."""
        return None if self._seen is None else _prompt_report(self._seen, self._stages)

    @property
    def visual_tokens(self) -> int:
        """Visual tokens that the latest prompt brought, over all rows."""
        return sum(last.visual_tokens) if (last := self.last) else 0

    @property
    def kept_tokens(self) -> int:
        """Those alive after the last layer."""
        return sum(last.kept_tokens) if (last := self.last) else 0

    @property
    def kept_fraction(self) -> float:
        """Kept tokens over visual tokens; 1 before the first prompt."""
        return last.kept_fraction if (last := self.last) else 1.0

    @property
    def cost(self) -> float:
        """Equivalent cost: mean over layers of the visual tokens a layer's attention reads, as a fraction of all."""
        return last.cost if (last := self.last) else 1.0

    @property
    def layers(self) -> list[LayerReport]:
        """Every decoder layer, in order."""
        return last.layers if (last := self.last) else []

    @property
    def steps(self) -> list[StepReport]:
        """Every stage that acted, in order."""
        return last.steps if (last := self.last) else []

    @property
    def decisions(self) -> list[Decision]:
        """Every plan of the latest prompt, in the order of application."""
        return [] if self._seen is None else list(self._seen.decisions)

    @property
    def layout(self) -> Layout | None:
        """Where the visual tokens of the latest prompt were."""
        return None if self._seen is None else self._seen.layout

    @property
    def surviving_columns(self) -> list[list[int]]:
        """Per row of the latest prompt, the prompt columns that the last layer still read."""
        return [] if self._seen is None else self._seen.sequence.living_columns()

    @property
    def kv_bytes(self) -> int:
        """Bytes of the cache over all layers."""
        return last.kv_bytes if (last := self.last) else 0

    @property
    def kv_bytes_dense(self) -> int:
        """Bytes it would have without reduction."""
        return last.kv_bytes_dense if (last := self.last) else 0

    @property
    def patches(self) -> int:
        """Patches that the vision tower encoded for the latest prompt; 0 where no method decided that from pixels."""
        return last.patches if (last := self.last) else 0

    @property
    def patches_dense(self) -> int:
        """Patches of all its pictures; 0 where no method decided from pixels."""
        return last.patches_dense if (last := self.last) else 0

    @property
    def repeats(self) -> list[Tensor]:
        """Per row of the latest prompt, (N,) the visual token whose encoding each one shows, its own number where the
        vision tower encoded it; empty where no method decided that from pixels.
        """
        tower = None if self._seen is None else self._seen.tower
        return [] if tower is None else list(tower.repeats)

    @property
    def prefill_ms(self) -> float:
        """Wall time of the decoder over the latest prompt, in milliseconds; the vision tower is not in it."""
        return last.prefill_ms if (last := self.last) else 0.0

    @property
    def decode_ms(self) -> float:
        """Mean wall time of a decoder step after that prompt, in milliseconds."""
        return sum(clock.milliseconds() for clock in self._decode) / len(self._decode) if self._decode else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        last = self.last or _NO_PROMPT
        return {
            "method": self.method,
            "prompts": self.prompts,
            "prompts_without_visual_tokens": self.prompts_without_visual_tokens,
            "decode_steps": self.decode_steps,
            "visual_tokens": sum(last.visual_tokens),
            "kept_tokens": sum(last.kept_tokens),
            "kept_fraction": last.kept_fraction,
            "cost": last.cost,
            "kv_bytes": last.kv_bytes,
            "kv_bytes_dense": last.kv_bytes_dense,
            "patches": last.patches,
            "patches_dense": last.patches_dense,
            "prefill_ms": last.prefill_ms,
            "decode_ms": self.decode_ms,
            "steps": [asdict(step) for step in last.steps],
            "layers": [asdict(layer) for layer in last.layers],
            "notes": [*self.notes, *last.notes],
        }

    def __repr__(self) -> str:
        return f"Report({self.method}: {self.prompts} prompts, cost {self.cost:.3f})"

    def __str__(self) -> str:
        last = self.last
        if last is not None:
            lines = _describe(self, last)
        else:
            lines = ["no visual tokens seen yet" if not self.prompts_without_visual_tokens else "visual tokens: 0"]
        notes = [*self.notes, *(last or _NO_PROMPT).notes]
        return "\n".join([self.method, *lines, *(f"note: {note}" for note in notes)])


_NO_PROMPT = PromptReport(0, 0, [], [], 1.0, 1.0, [], [], 0, 0, 0.0)


def _prompt_report(trace: ForwardTrace, stages: Sequence[str]) -> PromptReport:
    kept, total = trace.sequence.visual_counts(), max(1, sum(trace.visual))
    layers = [
        LayerReport(
            number,
            sum(layer.visual),
            sum(layer.visual_mlp),
            layer.length,
            layer.mlp_length,
            layer.kv_bytes,
            layer.kv_bytes_dense,
        )
        for number, layer in enumerate(trace.layers)
    ]
    notes = (
        ["this model has no place between attention and MLP; tokens went after the layer"] if trace.moved_points else []
    )
    return PromptReport(
        rows=len(trace.visual),
        prompt_length=trace.length,
        visual_tokens=list(trace.visual),
        kept_tokens=kept,
        kept_fraction=sum(kept) / total,
        cost=sum(layer.visual_in for layer in layers) / (total * len(layers)),
        row_costs=[
            sum(layer.visual[row] for layer in trace.layers) / (max(1, count) * len(layers))
            for row, count in enumerate(trace.visual)
        ],
        layers=layers,
        kv_bytes=sum(layer.kv_bytes for layer in layers),
        kv_bytes_dense=sum(layer.kv_bytes_dense for layer in layers),
        prefill_ms=trace.clock.milliseconds(),
        steps=[
            StepReport(stages[step.stage], str(step.point), sum(step.before), sum(step.after)) for step in trace.steps
        ],
        notes=notes,
        patches=trace.tower.patches if trace.tower else 0,
        patches_dense=trace.tower.patches_dense if trace.tower else 0,
    )


def _describe(report: Report, last: PromptReport) -> list[str]:
    lines = [
        f"visual tokens   {sum(last.visual_tokens)} -> {sum(last.kept_tokens)} ({last.kept_fraction:.1%} kept)",
        f"equivalent cost {last.cost:.1%} of the visual tokens per layer, on average",
        f"KV cache        {bytes_for_people(last.kv_bytes_dense)} -> {bytes_for_people(last.kv_bytes)}",
        f"prefill         {last.prefill_ms:.1f} ms in the language model",
    ]
    if last.patches_dense:
        share = last.patches / last.patches_dense
        lines.insert(1, f"patches         {last.patches_dense} -> {last.patches} ({share:.1%} encoded)")
    if decode_ms := report.decode_ms:
        lines.append(f"decode          {decode_ms:.1f} ms per token over {report.decode_steps} steps")
    lines += _step_lines(last.steps)
    lines.append("layer  visual tokens in attention -> MLP")
    lines += [f"{start:>5}  {text}" for start, text in _layer_lines(last.layers)]
    return lines


def _step_lines(steps: Sequence[StepReport]) -> list[str]:
    """What each stage took out; stages that left every token alone are not shown."""
    steps = [step for step in steps if step.tokens_in != step.tokens_out]
    name, point = (max((len(getattr(step, part)) for step in steps), default=0) for part in ("method", "point"))
    return [f"{step.method:<{name}}  {step.point:<{point}}  {step.tokens_in} -> {step.tokens_out}" for step in steps]


def _layer_lines(layers: Sequence[LayerReport]) -> list[tuple[str, str]]:
    """Neighbouring layers with the same counts share a line."""
    groups: list[list[LayerReport]] = []
    for layer in layers:
        if groups and (groups[-1][0].visual_in, groups[-1][0].visual_out) == (layer.visual_in, layer.visual_out):
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return [
        (str(g[0].layer) if len(g) == 1 else f"{g[0].layer}-{g[-1].layer}", f"{g[0].visual_in} -> {g[0].visual_out}")
        for g in groups
    ]


def bytes_for_people(count: float | None) -> str:
    """A number of bytes with a unit; "unknown" where none was measured."""
    if count is None:
        return "unknown"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
