"""The language model learns what tokens show, what words stand for and to answer, with more layers at each stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from framefusion.evaluation.synthetic_questions import KINDS
from training.architecture import WIDTH, build_model
from training.facts import FactHead
from training.labels import NOTHING
from training.library import FEWEST, MOST, Chosen, Library, at, look_at_clip, look_at_words
from training.optimise import Optimiser
from training.packing import AFTER_CLIP, OFTENER, QUESTIONS, Asker, Look, Loss, Pack, attend, head_ids, lose_inside
from training.progress import BETWEEN_SAVES, Course, load, note_time, rate_at, save, say
from training.states import LOWER, StateHeads, states_loss

# Moments have a quarter of the frames, so a batch has four times as many clips for the same time.
MOMENTS = 4
CHECK_EVERY, CHECKED = 500, 96
# Linear heads learn this many times as fast as matrices inside would at the same factor.
HEADS_RATE = 5.0
# Weight of the visual states in batches of moments, which are there for them.
STATES_OF_MOMENTS = 1.0
Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """One course of the language model; `layers` may exceed those of the stage before.

    lower, rate: factors on the learning rates, of the layers below LOWER and of all else; they end at nothing over the
    share `cool` of the steps. moments: share of batches about the few frames around a change, of MOMENTS times as many
    clips. whole: share of the others that see every token. inside: share of batches that lose tokens on their way
    through the lower half of the layers. after_clip: where the text behind the clip may start. evenly: every kind of
    question is asked as often as any other. questions: the most per clip. states, facts: weights of what is known of
    the visual tokens and of the words.
    """

    name: str
    layers: int
    steps: int
    batch: int = 8
    rate: float = 1.0
    lower: float = 1.0
    moments: float = 0.0
    whole: float = 0.5
    inside: float = 0.0
    after_clip: tuple[int, ...] = AFTER_CLIP
    cool: float = 0.4
    evenly: bool = False
    questions: int = QUESTIONS
    states: float = 0.3
    facts: float = 0.5

    def scale(self, name: str) -> float:
        """The factor on the learning rates of a weight of Reader."""
        if name.startswith(("state_heads", "fact_head", "lm_head")):
            return HEADS_RATE
        layer = name.split(".layers.")[-1].split(".")[0]
        below = "embed" in name or (layer.isdigit() and int(layer) < LOWER)
        return self.lower if below else self.rate


class Reader(torch.nn.Module):
    """Stock text model and head. In training linear layers read from the lower layers what is known of each visual
    token, and further up what the words stand for."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        model = build_model(layers)
        self.text, self.lm_head = model.model.language_model, model.lm_head
        AttentionInterface.register("packed", attend)
        self.text.config._attn_implementation = "packed"
        for weight in self.text.layers.parameters():
            if weight.ndim == 2:
                # The stock spread is meant for wide models; here the first steps would do little else than undo it.
                torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        torch.nn.init.normal_(self.text.embed_tokens.weight)
        self.state_heads = StateHeads(self.text.layers)
        # Where an answer looks at the words of its question; the layer before it must know what they stand for.
        self.answering = LOWER + (layers - LOWER) // 2
        self.fact_head = FactHead(WIDTH, self.text.layers[self.answering - 1])
        self.register_buffer("head_ids", head_ids(), persistent=False)

    def forward(
        self, tokens: torch.Tensor, batch: Pack, lost: Loss | None = None, looks: Sequence[Look] = ()
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """tokens: (B, n, D) kept visual tokens; `lost` is what upper layers do not read of them,
        `looks` where layers must look.

        Returns the last hidden states of the text, (B, M, D), what is read from the clip in the lower layers (see
        StateHeads), and the loss of what the words stand for.
        """
        count, visual, _ = tokens.shape
        embed = self.text.embed_tokens
        head = embed(self.head_ids).expand(count, -1, -1)
        hidden = torch.cat([head, tokens, embed(batch.text)], 1)
        front = head.shape[1] + visual
        with torch.autocast("cpu", torch.bfloat16):
            output = self.text(
                inputs_embeds=hidden,
                position_ids=batch.positions,
                attention_mask={"full_attention": batch.mask},
                use_cache=False,
                front=front,
                lost=lost,
                looks=looks,
            ).last_hidden_state
        return output[:, front:].float(), self.state_heads(front - visual, front), self.fact_head(front, batch.facts)


def grow(state: dict[str, torch.Tensor], before: int, after: int) -> dict[str, torch.Tensor]:
    """Spread `before` layers over `after`, with layers in between that add nothing at first."""
    fresh = Reader(after).state_dict()
    places = {number: number for number in range(LOWER)}
    for number in range(LOWER, before):
        places[LOWER + round((number - LOWER + 0.5) * (after - LOWER) / (before - LOWER) - 0.5)] = number
    grown = {name: state.get(name, value) for name, value in fresh.items() if ".layers." not in name}
    for name, value in fresh.items():
        if ".layers." not in name:
            continue
        lead, rest = name.split(".layers.")
        layer, part = rest.split(".", 1)
        if int(layer) in places:
            grown[name] = state[f"{lead}.layers.{places[int(layer)]}.{part}"]
        else:
            grown[name] = torch.zeros_like(value) if part.split(".")[-2] in ("o_proj", "down_proj") else value
    return grown


def train_language(work: Path, stages: list[Stage], clips: int, seed: int) -> None:
    """The stages in turn; leaves work/language.pt. The last CHECKED clips are kept aside to report accuracy."""
    if (work / "language.pt").exists():
        return
    library = Library(work, clips)
    before: Stage | None = None
    state: Any = None
    for stage in stages:
        done = load(work / f"{stage.name}.pt")
        if done is None:
            if before is not None and before.layers != stage.layers:
                torch.manual_seed(seed)
                state = grow(state, before.layers, stage.layers)
            state = _train(work, stage, state, library, seed)
            save(work / f"{stage.name}.pt", {"weights": state})
        else:
            state = done["weights"]
        before = stage
    save(work / "language.pt", {"weights": state})


def _train(work: Path, stage: Stage, weights: Any, library: Library, seed: int) -> Any:
    torch.manual_seed(seed)
    reader, asker = Reader(stage.layers), Asker({} if stage.evenly else OFTENER)
    optimiser = Optimiser(reader.named_parameters(), stage.scale)
    part = work / f"{stage.name}-part.pt"
    state = load(part)
    start = 0
    if state is not None:
        weights, start = state["weights"], state["step"]
        optimiser.load_state_dict(state["optimiser"])
    if weights is not None:
        reader.load_state_dict(weights)
    seen = range(len(library) - CHECKED)
    with Course(stage.name, stage.steps, start) as course:
        for step in range(start, stage.steps):
            draw = np.random.default_rng([seed, *stage.name.encode(), step])
            chosen, batch, weight = _draw(library, asker, draw, seen, stage)
            losses, states = _losses(reader, chosen, batch, _draw_loss(batch, draw, stage))
            total = losses["answer"] + stage.facts * (losses["facts"] + losses["look"]) + weight * sum(states.values())
            optimiser.step(total, rate_at(step, stage.steps, cool=stage.cool))
            course.advance({name: float(loss.detach()) for name, loss in (losses | states).items()})
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == stage.steps:
                say(f"{stage.name} {step + 1}: " + _told(check(reader, library, asker, stage)))
            if (step + 1) % BETWEEN_SAVES == 0:
                kept = {"weights": reader.state_dict(), "optimiser": optimiser.state_dict()}
                save(part, {"step": step + 1, **kept})
                note_time(work, stage.name, course.lap())
    note_time(work, stage.name, course.lap())
    return reader.state_dict()


def _draw(
    library: Library, asker: Asker, draw: np.random.Generator, seen: range, stage: Stage
) -> tuple[Chosen, Pack, float]:
    """One batch, and the weight of its visual states."""
    if draw.random() < stage.moments:
        return *library.moments(asker, draw, seen, MOMENTS * stage.batch, stage.after_clip), STATES_OF_MOMENTS
    whole, clips = draw.random() <= stage.whole, draw.choice(seen, size=stage.batch)
    return *library.batch(asker, draw, clips, stage.questions, stage.after_clip, whole=whole), stage.states


def _draw_loss(batch: Pack, draw: np.random.Generator, stage: Stage) -> Loss | None:
    if draw.random() >= stage.inside:
        return None
    return lose_inside(batch, draw.uniform(FEWEST, MOST), int(draw.integers(1, stage.layers // 2)), draw)


def _losses(reader: Reader, chosen: Chosen, batch: Pack, lost: Loss | None) -> tuple[Losses, Losses]:
    """Those of the text and those of the visual states, by name."""
    looks = look_at_clip(chosen, batch, LOWER), look_at_words(batch, reader.answering)
    text, read, facts = reader(chosen["tokens"].float(), batch, lost, looks)
    asked = batch.target != NOTHING
    answer = F.cross_entropy(reader.lm_head(text[asked]), batch.target[asked])
    kept = batch.kept
    if lost is not None:
        # A lost token reads nothing more, so nothing more can be read from it.
        rows = torch.arange(len(kept))[:, None]
        read, chosen, kept = at(read, rows, lost.stay), at(chosen, rows, lost.stay), kept[rows, lost.stay]
    looked = sum((look.loss for look in looks if look.loss is not None), torch.zeros(()))
    return {"answer": answer, "facts": facts, "look": looked}, states_loss(read, chosen, kept)


@torch.inference_mode()
def check(reader: Reader, library: Library, asker: Asker, stage: Stage) -> dict[str, float]:
    """Share of right answers, every token of them, by kind, on the clips kept aside, whole."""
    draw = np.random.default_rng(0)
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    last = len(library)
    for first in range(last - CHECKED, last, 16):
        chosen, batch = library.batch(
            asker, draw, np.arange(first, min(first + 16, last)), after_clip=stage.after_clip, whole=True
        )
        text, *_ = reader(chosen["tokens"].float(), batch)
        good = (reader.lm_head(text).argmax(-1) == batch.target) | (batch.target == NOTHING)
        for row, kinds in enumerate(batch.kinds):
            for number, kind in enumerate(kinds, 1):
                asked[kind] += 1
                right[kind] += bool(good[row, batch.segment[row] == number].all())
    return {kind: right[kind] / max(asked[kind], 1) for kind in KINDS}


def _told(shares: dict[str, float]) -> str:
    mean = sum(shares.values()) / len(shares)
    return f"{mean:.1%} right: " + " ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
