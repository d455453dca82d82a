"""Stage three and four: the language model learns to answer, first shallow, then with layers put in between."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from framefusion.yardstick import FRAMES, KINDS
from framefusion.yardstick.scene import CHANGES, COLOURS
from training.architecture import GRID, WIDTH, build_model
from training.facts import FactHead
from training.features import load_features
from training.labels import NOTHING, WAYS
from training.optimise import Optimiser
from training.packing import (
    AFTER_CLIP,
    OFTENER,
    QUESTIONS,
    VISUAL,
    Asker,
    Loss,
    Pack,
    attend,
    head_ids,
    lose_inside,
    moment,
    pack,
    survivors,
)
from training.progress import BETWEEN_SAVES, Course, load, note_time, rate_at, save, say

# Batches that do not see every token lose this share of them.
FEWEST, MOST = 0.1, 0.75
# Moments have a quarter of the frames, so a batch has four times as many clips for the same time.
MOMENTS = 4
CHECK_EVERY, CHECKED = 200, 96
# Weight of the visual states in batches of moments, which are there for them.
STATES_OF_MOMENTS = 1.0
COLOURED = len(COLOURS)
# Layers that learn the states of the visual tokens. They stay the first ones when a model grows.
LOWER = 3
# Tokens near a change are one in fifty: without weights it is never seen.
RARE = torch.tensor([0.1, *[1.0] * len(CHANGES)])
STATES = {
    "way": COLOURED * len(WAYS),
    "speed": COLOURED,
    "age": COLOURED,
    "change": 1 + len(CHANGES),
    "row": GRID,
    "column": GRID,
    "frame": 1,
}


@dataclass(frozen=True)
class Stage:
    """One course of the language model; `layers` may exceed those of the stage before.

    rate: factor on the learning rates, which end at nothing over the share `cool` of the steps. moments: share of
    batches about the few frames around a change, of MOMENTS times as many clips. whole: share of the others that see
    every token. inside: share of batches that lose tokens on their way through the lower half of the layers. after_clip: where the
    text behind the clip may start. evenly: every kind of question is asked as often as the others. questions: the most
    per clip. states, facts: weights of what is known of the visual tokens and of the words of questions.
    """

    name: str
    layers: int
    steps: int
    batch: int = 16
    rate: float = 1.0
    moments: float = 0.0
    whole: float = 0.5
    inside: float = 0.0
    after_clip: tuple[int, ...] = AFTER_CLIP
    cool: float = 0.4
    evenly: bool = False
    questions: int = QUESTIONS
    states: float = 0.3
    facts: float = 0.3


class Reader(torch.nn.Module):
    """Stock text model and head. In training a linear layer reads what is known of each visual token after the lower
    layers, so that these learn where a token is and what moves, and the ones above to answer."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        model = build_model(layers)
        self.text, self.lm_head = model.model.language_model, model.lm_head
        AttentionInterface.register("packed", attend)
        self.text.config._attn_implementation = "packed"
        torch.nn.init.normal_(self.text.embed_tokens.weight)
        self.states_norm = torch.nn.RMSNorm(WIDTH)
        self.states_head = torch.nn.Linear(WIDTH, sum(STATES.values()))
        self.facts_head = FactHead(WIDTH)
        self.seen: dict[str, torch.Tensor] = {}
        for name, number in (("states", LOWER - 1), ("facts", LOWER + (layers - LOWER) // 2)):
            self.text.layers[min(number, layers - 1)].register_forward_hook(partial(self._keep, name))
        self.register_buffer("head_ids", head_ids(), persistent=False)

    def _keep(self, name: str, module: Any, inputs: Any, output: Any) -> None:
        self.seen[name] = output if isinstance(output, torch.Tensor) else output[0]

    def forward(
        self, tokens: torch.Tensor, batch: Pack, lost: Loss | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """tokens: (B, n, D) kept visual tokens; `lost` is what upper layers do not read of them.

        Returns the last hidden states of the text, (B, M, D), what is read from the clip after the lower layers,
        (B, n, sum of STATES), and the loss of what the words stand for.
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
            ).last_hidden_state
        states = self.states_head(self.states_norm(self.seen["states"][:, front - visual : front].float()))
        return output[:, front:].float(), states, self.facts_head(self.seen["facts"][:, front:], batch.facts)


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
        number, part = rest.split(".", 1)
        if int(number) in places:
            grown[name] = state[f"{lead}.layers.{places[int(number)]}.{part}"]
        else:
            grown[name] = torch.zeros_like(value) if part.split(".")[-2] in ("o_proj", "down_proj") else value
    return grown


def train_language(work: Path, stages: list[Stage], clips: int, seed: int) -> None:
    """The stages in turn; leaves work/language.pt. The last CHECKED clips are kept aside to report accuracy."""
    if (work / "language.pt").exists():
        return
    features = load_features(work, clips)
    before: Stage | None = None
    state: Any = None
    for stage in stages:
        done = load(work / f"{stage.name}.pt")
        if done is None:
            if before is not None and before.layers != stage.layers:
                torch.manual_seed(seed)
                state = grow(state, before.layers, stage.layers)
            state = _train(work, stage, state, features, seed)
            save(work / f"{stage.name}.pt", {"weights": state})
        else:
            state = done["weights"]
        before = stage
    save(work / "language.pt", {"weights": state})


def _train(work: Path, stage: Stage, weights: Any, features: dict[str, torch.Tensor], seed: int) -> Any:
    torch.manual_seed(seed)
    reader, asker = Reader(stage.layers), Asker({} if stage.evenly else OFTENER)
    optimiser = Optimiser(reader.named_parameters(), stage.rate)
    part = work / f"{stage.name}-part.pt"
    state = load(part)
    start = 0
    if state is not None:
        weights, start = state["weights"], state["step"]
        optimiser.load_state_dict(state["optimiser"])
    if weights is not None:
        reader.load_state_dict(weights)
    seen = len(features["tokens"]) - CHECKED
    with Course(stage.name, stage.steps, start) as course:
        for step in range(start, stage.steps):
            draw = np.random.default_rng([seed, *stage.name.encode(), step])
            if draw.random() < stage.moments:
                weight, (chosen, batch) = STATES_OF_MOMENTS, _moments(features, asker, draw, seen, stage)
            else:
                clips = draw.integers(seen, size=stage.batch)
                weight, (chosen, batch) = stage.states, _batch(features, asker, draw, clips, stage)
            losses = _losses(reader, chosen, batch, _draw_loss(batch, draw, stage))
            states = sum((losses[name] for name in STATES), torch.zeros(()))
            total = losses["answer"] + stage.facts * losses["facts"] + weight * states
            optimiser.step(total, rate_at(step, stage.steps, cool=stage.cool))
            course.advance({name: float(loss.detach()) for name, loss in losses.items()})
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == stage.steps:
                say(f"{stage.name} {step + 1}: " + _told(check(reader, features, asker, stage)))
            if (step + 1) % BETWEEN_SAVES == 0:
                kept = {"weights": reader.state_dict(), "optimiser": optimiser.state_dict()}
                save(part, {"step": step + 1, **kept})
                note_time(work, stage.name, course.lap())
    note_time(work, stage.name, course.lap())
    return reader.state_dict()


def _moments(
    features: dict[str, torch.Tensor], asker: Asker, draw: np.random.Generator, seen: int, stage: Stage
) -> tuple[dict[str, torch.Tensor], Pack]:
    clips, rows, kept = [], [], []
    while len(clips) < MOMENTS * stage.batch:
        clip = int(draw.integers(seen))
        if (found := asker.what_changed(clip, draw)) is not None:
            clips.append(clip)
            kept.append(moment(found[0], draw))
            rows.append([found[1]])
    return _chosen(features, np.array(clips), pack(rows, np.stack(kept), draw, stage.after_clip))


def _draw_loss(batch: Pack, draw: np.random.Generator, stage: Stage) -> Loss | None:
    if draw.random() >= stage.inside:
        return None
    return lose_inside(batch, draw.uniform(FEWEST, MOST), int(draw.integers(1, stage.layers // 2)), draw)


def _batch(
    features: dict[str, torch.Tensor], asker: Asker, draw: np.random.Generator, clips: np.ndarray, stage: Stage
) -> tuple[dict[str, torch.Tensor], Pack]:
    kept = np.tile(np.arange(VISUAL), (len(clips), 1))
    if draw.random() > stage.whole:
        keep = round(VISUAL * (1 - draw.uniform(FEWEST, MOST)))
        kept = np.stack([survivors(_still(features["tokens"][clip]), keep, draw) for clip in clips])
    rows = [asker.segments(int(clip), draw, stage.questions) for clip in clips]
    return _chosen(features, clips, pack(rows, kept, draw, stage.after_clip))


def _chosen(features: dict[str, torch.Tensor], clips: np.ndarray, batch: Pack) -> tuple[dict[str, torch.Tensor], Pack]:
    return _at(features, torch.from_numpy(clips)[:, None], batch.kept), batch


def _at(values: dict[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: value[rows, columns] for name, value in values.items()}


def _still(tokens: torch.Tensor) -> np.ndarray:
    """(N,) similarity of each token with the one at its place in the frame before; -1 in the first frame."""
    frames = tokens.float().view(FRAMES, -1, WIDTH)
    alike = F.cosine_similarity(frames[1:], frames[:-1], dim=-1)
    return torch.cat([-torch.ones_like(alike[:1]), alike]).flatten().numpy()


def _losses(reader: Reader, chosen: dict[str, torch.Tensor], batch: Pack, lost: Loss | None) -> dict[str, torch.Tensor]:
    text, states, facts = reader(chosen["tokens"].float(), batch, lost)
    asked = batch.target != NOTHING
    answer = F.cross_entropy(reader.lm_head(text[asked]), batch.target[asked])
    kept = batch.kept
    if lost is not None:
        # A lost token reads nothing more, so nothing more can be read from it.
        rows = torch.arange(len(kept))[:, None]
        states, kept, chosen = states[rows, lost.stay], kept[rows, lost.stay], _at(chosen, rows, lost.stay)
    return {"answer": answer, "facts": facts, **_states_loss(states, chosen, kept)}


def _states_loss(read: torch.Tensor, chosen: dict[str, torch.Tensor], kept: torch.Tensor) -> dict[str, torch.Tensor]:
    way, speed, age, change, row, column, frame = read.split(list(STATES.values()), -1)
    touched, truth = chosen["touched"], chosen["way"].long()
    moving = truth != NOTHING
    return {
        "way": F.cross_entropy(way.unflatten(-1, (COLOURED, -1))[moving], truth[moving]),
        "speed": F.smooth_l1_loss(speed[moving], chosen["speed"].float()[moving], beta=0.2),
        "age": F.smooth_l1_loss(age[touched], chosen["age"].float()[touched], beta=0.1),
        "change": F.cross_entropy(change.flatten(0, 1), chosen["change"].long().flatten(), weight=RARE),
        "row": F.cross_entropy(row.flatten(0, 1), (kept // GRID % GRID).flatten()),
        "column": F.cross_entropy(column.flatten(0, 1), (kept % GRID).flatten()),
        "frame": F.smooth_l1_loss(frame.squeeze(-1), kept.float() / VISUAL, beta=0.1),
    }


@torch.inference_mode()
def check(reader: Reader, features: dict[str, torch.Tensor], asker: Asker, stage: Stage) -> dict[str, float]:
    """Share of right answers, every token of them, by kind, on the clips kept aside, whole."""
    whole = replace(stage, whole=1.0)
    draw = np.random.default_rng(0)
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    last = len(features["tokens"])
    for first in range(last - CHECKED, last, 16):
        chosen, batch = _batch(features, asker, draw, np.arange(first, min(first + 16, last)), whole)
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
