"""Many questions about one clip in one sequence: each sees the clip and itself, as if it were asked alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from framefusion.evaluation.synthetic_questions import FRAMES, KINDS, Scene, draw_scene
from framefusion.evaluation.synthetic_questions.questions import Question, pick, questions
from training.architecture import END, GRID, START, VISION_END, VISION_START, build_tokenizer, token_id
from training.facts import FACTS, UNKNOWN, facts_of, points_at, vector
from training.labels import NOTHING

VISUAL = FRAMES * GRID * GRID
QUESTIONS = 16
# Changes that are learned first.
PLAIN = ("background", "colour")
# Noise on the similarity by which still tokens are lost, so that no threshold is learned.
JITTER = 0.02
# Kinds that join several things a clip shows are learned last; then they are asked this many times as often as others.
OFTENER = {"order3": 5.0, "order2": 3.0, "change": 3.0, "count": 3.0, "speed": 2.0}
HEAD = (START, "user", VISION_START)
TURN = (END, START, "assistant")
PADDING = -1
BLOCK = 112
# Frames that are enough to see what changed, and how many of them may lie before the change.
MOMENT, BEFORE = 8, (2, 6)
# Where the text after a clip starts, counted from the clip's own start: at the larger side of its grid.
AFTER_CLIP = (GRID,)


@dataclass
class Segment:
    kind: str
    tokens: list[int]
    # Answer and end of turn are the last ones.
    answer: int
    # One row per token, and the tag of what it names, see facts.py.
    facts: list[list[float]]
    points: list[int]


@dataclass
class Pack:
    """One batch. kept: (B, n) places of the visual tokens that stay. text: (B, M) ids behind the clip, with `segment`
    numbers from 1 (0: the end of the clip, PADDING: nothing). positions: (3, B, S), S = 3 + n + M. mask: (B, 1, M, S).
    target: (B, M), the next token where it is part of an answer, else NOTHING. facts: (B, M, F), what the words stand
    for. points: (B, M), the tag of what they name, else NOTHING. kinds: one name per segment and row.
    """

    kept: torch.Tensor
    text: torch.Tensor
    segment: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor
    facts: torch.Tensor
    points: torch.Tensor
    kinds: list[list[str]]


class Asker:
    """Draws questions and turns them into segments."""

    def __init__(self, oftener: dict[str, float] = OFTENER) -> None:
        tokenizer = build_tokenizer()
        self.encode = lambda text: list(tokenizer(text)["input_ids"])
        self.word = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.turn = [token_id(token) for token in TURN]
        self.end = token_id(END)
        weights = np.array([oftener.get(kind, 1.0) for kind in KINDS])
        self.shares = weights / weights.sum()

    def segments(self, seed: int, draw: np.random.Generator, most: int = QUESTIONS) -> list[Segment]:
        """Up to `most` different questions about the scene of `seed`."""
        scene = draw_scene(seed)
        segments: dict[str, Segment] = {}
        for kind in draw.choice(KINDS, size=2 * most, p=self.shares):
            question = pick(scene, str(kind), draw)
            if question is not None and len(segments) < most:
                segments[question.text] = self.segment(scene, question)
        return list(segments.values())

    def segment(self, scene: Scene, question: Question) -> Segment:
        asked, answer = self.encode(question.text), [*self.encode(question.answer), self.end]
        behind = len(self.turn) + len(answer)
        words = [self.word[token] for token in asked]
        facts = [vector(facts_of(scene, word)) for word in words] + [vector({})] * behind
        points = [points_at(scene, word) for word in words] + [NOTHING] * behind
        return Segment(question.kind, [*asked, *self.turn, *answer], len(answer), facts, points)

    def what_changed(self, seed: int, draw: np.random.Generator) -> tuple[int, Segment] | None:
        """The frame at which something changed, and the question what it was; often None for what is easily seen."""
        scene = draw_scene(seed)
        if scene.change is None or (scene.change.what in PLAIN and draw.random() < 0.5):
            return None
        return scene.change.at, self.segment(scene, questions(scene, "change")[0])


def survivors(still: np.ndarray, keep: int, draw: np.random.Generator) -> np.ndarray:
    """Places (n,) of `keep` of the N tokens of one clip. Lost are, by lot: any tokens, whole frames, or those most
    like the frame before. still: (N,) cosine similarity with that frame."""
    lot = draw.integers(3)
    if lot == 0:
        order = draw.random(VISUAL)
    elif lot == 1:
        order = np.repeat(draw.permutation(FRAMES), GRID * GRID) + draw.random(VISUAL) / 2
    else:
        order = still + draw.normal(0, JITTER, VISUAL)
    return np.sort(np.argsort(order)[:keep])


def moment(at: int, draw: np.random.Generator) -> np.ndarray:
    """Places of the tokens of the few frames around frame `at`."""
    first = at - int(draw.integers(*BEFORE, endpoint=True))
    return np.arange(first * GRID * GRID, (first + MOMENT) * GRID * GRID)


def pack(
    rows: list[list[Segment]], kept: np.ndarray, draw: np.random.Generator, after_clip: tuple[int, ...] = AFTER_CLIP
) -> Pack:
    """`rows`: the segments of each clip. kept: (B, n), the places of the visual tokens that stay. `after_clip`: where
    the text behind the clip may start."""
    count, keep = kept.shape
    longest = 1 + max(sum(len(segment.tokens) for segment in row) for row in rows)
    text = np.zeros((count, longest), np.int64)
    segment = np.full((count, longest), PADDING)
    target = np.full((count, longest), NOTHING)
    points = np.full((count, longest), NOTHING)
    facts = np.full((count, longest, len(FACTS)), UNKNOWN, np.float32)
    after = np.zeros((count, longest), np.int64)
    text[:, 0], segment[:, 0] = token_id(VISION_END), 0
    for number, row in enumerate(rows):
        start = 1
        for place, part in enumerate(row, 1):
            stop = start + len(part.tokens)
            text[number, start:stop] = part.tokens
            segment[number, start:stop] = place
            facts[number, start:stop] = part.facts
            points[number, start:stop] = part.points
            after[number, start:stop] = np.arange(1, len(part.tokens) + 1)
            target[number, stop - part.answer - 1 : stop - 1] = part.tokens[-part.answer :]
            start = stop
    base = len(HEAD) + draw.choice(after_clip, (count, 1))
    positions = _positions(kept, base + after)
    mask = _mask(keep, torch.from_numpy(segment))
    arrays = {"kept": kept, "text": text, "segment": segment, "target": target, "facts": facts, "points": points}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    kinds = [[part.kind for part in row] for row in rows]
    return Pack(**tensors, positions=positions, mask=mask, kinds=kinds)


def _positions(kept: np.ndarray, text: np.ndarray) -> torch.Tensor:
    frame, cell = np.divmod(kept, GRID * GRID)
    row, column = np.divmod(cell, GRID)
    head = np.broadcast_to(np.arange(len(HEAD)), (len(kept), len(HEAD)))
    axes = [np.concatenate([head, len(HEAD) + axis, text], 1) for axis in (frame, row, column)]
    return torch.from_numpy(np.stack(axes))


def _mask(keep: int, segment: torch.Tensor) -> torch.Tensor:
    """What the text may see: the clip, the end of the clip, and the part of its own question before it."""
    longest = segment.shape[1]
    same = (segment[:, :, None] == segment[:, None]) | (segment[:, None] == 0)
    text = same & torch.ones(longest, longest, dtype=torch.bool).tril()
    return F.pad(text, (len(HEAD) + keep, 0), value=True)[:, None]


@dataclass
class Loss:
    """Tokens lost inside the model. stay: (B, n') which kept visual tokens the layers from `layer` on still read;
    columns: (B, S') the same as columns of the prompt, the text's among them."""

    layer: int
    stay: torch.Tensor
    columns: torch.Tensor


def lose_inside(batch: Pack, share: float, layer: int, draw: np.random.Generator) -> Loss:
    """A random `share` of each clip's tokens, read by the layers below `layer` only."""
    count, keep = batch.kept.shape
    stay = np.sort(np.stack([draw.permutation(keep)[: round(keep * (1 - share))] for _ in range(count)]), 1)
    around = np.arange(batch.positions.shape[2])
    head, text = around[: len(HEAD)], around[len(HEAD) + keep :]
    columns = [np.broadcast_to(head, (count, len(head))), len(HEAD) + stay, np.broadcast_to(text, (count, len(text)))]
    return Loss(layer, torch.from_numpy(stay), torch.from_numpy(np.concatenate(columns, 1)))


@dataclass
class Look:
    """Where the heads of one layer must look from some places of the text.

    rows: R places (b, m) in the text. wanted: (R, H, C) bool, which of the C columns of the prompt from `start` on each
    head should look at, alike. Attention fills in the loss: how far (in nats) it is from looking just there.
    """

    layer: int
    start: int
    rows: tuple[torch.Tensor, torch.Tensor]
    wanted: torch.Tensor
    loss: torch.Tensor | None = None

    def teach(self, scores: torch.Tensor) -> None:
        """scores: (B, H, M, S), masked."""
        if not len(self.wanted):
            return
        chosen = scores[self.rows[0], :, self.rows[1]].float().log_softmax(-1)
        there = chosen[..., self.start : self.start + self.wanted.shape[-1]]
        count = self.wanted.sum(-1)
        self.loss = -(there.masked_fill(~self.wanted, 0).sum(-1) / count + count.log()).mean()


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    front: int,
    lost: Loss | None = None,
    looks: Sequence[Look] = (),
    **_: Any,
) -> Any:
    """Attention in two calls: the clip is causal and needs no mask, the text behind it takes `attention_mask`.

    query: (B, H, S, D), of which the first `front` columns are the clip. A mask over everything would cost twice. A
    token that is `lost` to this layer is neither read nor does it read; its column stays and adds nothing.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if lost is None or module.layer_idx < lost.layer:
        here = [look for look in looks if look.layer == module.layer_idx]
        return _both(query, key, value, attention_mask, front, here), None
    rows = torch.arange(len(query))[:, None]
    query_left, key_left, value_left = (
        part.transpose(1, 2)[rows, lost.columns].transpose(1, 2) for part in (query, key, value)
    )
    front -= query.shape[2] - query_left.shape[2]
    visible = attention_mask.squeeze(1).transpose(1, 2)[rows, lost.columns].transpose(1, 2)[:, None]
    mixed = _both(query_left, key_left, value_left, visible, front)
    everywhere = mixed.new_zeros(len(query), query.shape[2], *mixed.shape[2:])
    return everywhere.index_put((rows, lost.columns), mixed), None


def _both(
    query: Any, key: Any, value: Any, attention_mask: Any, front: int, looks: Sequence[Look] = ()
) -> torch.Tensor:
    clip = _causal(query[:, :, :front], key[:, :, :front], value[:, :, :front])
    scores = query[:, :, front:] * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    scores = scores.masked_fill(~attention_mask, -1e4)
    for look in looks:
        look.teach(scores)
    text = scores.softmax(-1) @ value
    return torch.cat([clip, text], 2).transpose(1, 2)


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention in blocks of rows, each with the keys it may see: in bfloat16 on a CPU the fastest there is."""
    mixed, length = [], query.shape[2]
    query, key = query * query.shape[-1] ** -0.5, key.transpose(-1, -2)
    for start in range(0, length, BLOCK):
        stop = min(start + BLOCK, length)
        scores = query[:, :, start:stop] @ key[..., :stop]
        hidden = torch.full((stop - start, stop - start), -1e4, dtype=scores.dtype).triu_(1)
        scores[..., start:] += hidden
        mixed.append(scores.softmax(-1) @ value[:, :, :stop])
    return torch.cat(mixed, 2)


def head_ids() -> torch.Tensor:
    return torch.tensor([token_id(token) for token in HEAD])
