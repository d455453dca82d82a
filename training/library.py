"""Batches of clips as the language model reads them: features, story and questions of the tokens that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from framefusion.evaluation.synthetic_questions import FRAMES
from framefusion.evaluation.synthetic_questions.scene import COLOURS
from training.architecture import GRID, HEADS, WIDTH
from training.features import load_features
from training.labels import NOTHING
from training.packing import AFTER_CLIP, HEAD, QUESTIONS, VISUAL, Asker, Look, Pack, Segment, moment, pack, survivors
from training.story import BACK, BEFORE, VIEWED, earlier, retell, stories

# Batches that do not see every token lose this share of them.
FEWEST, MOST = 0.1, 0.75
Chosen = dict[str, torch.Tensor]
# What a token looked like, as few numbers.
VIEW = torch.nn.init.orthogonal_(torch.empty(WIDTH, VIEWED), generator=torch.Generator().manual_seed(0))


class Library:
    """All clips of the course. Batches are (what is known of the kept tokens, by name, (B, n, ...) each; the text)."""

    def __init__(self, work: Path, clips: int) -> None:
        self.features, self.told = load_features(work, clips), stories(clips)

    def __len__(self) -> int:
        return len(self.features["tokens"])

    def batch(
        self,
        asker: Asker,
        draw: np.random.Generator,
        clips: np.ndarray,
        questions: int = QUESTIONS,
        after_clip: tuple[int, ...] = AFTER_CLIP,
        *,
        whole: bool,
    ) -> tuple[Chosen, Pack]:
        """clips: (B,), each with up to `questions`. Unless `whole`, each loses tokens in one of three ways."""
        kept = np.tile(np.arange(VISUAL), (len(clips), 1))
        if not whole:
            keep = round(VISUAL * (1 - draw.uniform(FEWEST, MOST)))
            kept = np.stack([survivors(_still(self.features["tokens"][clip]), keep, draw) for clip in clips])
        rows = [asker.segments(int(clip), draw, questions) for clip in clips]
        return self._chosen(clips, pack(rows, kept, draw, after_clip))

    def moments(
        self, asker: Asker, draw: np.random.Generator, seen: range, count: int, after_clip: tuple[int, ...] = AFTER_CLIP
    ) -> tuple[Chosen, Pack]:
        """The few frames around a change of `count` clips out of `seen`, and the question what changed."""
        clips: list[int] = []
        rows: list[list[Segment]] = []
        kept: list[np.ndarray] = []
        while len(clips) < count:
            clip = int(draw.choice(seen))
            if (found := asker.what_changed(clip, draw)) is not None:
                clips.append(clip)
                kept.append(moment(found[0], draw))
                rows.append([found[1]])
        return self._chosen(np.array(clips), pack(rows, np.stack(kept), draw, after_clip))

    def _chosen(self, clips: np.ndarray, batch: Pack) -> tuple[Chosen, Pack]:
        numbers, kept = torch.from_numpy(clips), batch.kept
        features = at(self.features, numbers[:, None], kept)
        told = retell(self.told, numbers, kept, features["touched"])
        before = self.features["tokens"][numbers[:, None], earlier(kept, BACK[BEFORE]).clamp(min=0)]
        told["view" + BEFORE] = before.float() @ VIEW
        return features | told, batch


def tags(chosen: Chosen) -> torch.Tensor:
    """(B, n, TAGS): what each visual token shows."""
    colours = F.one_hot(chosen["colour"], len(COLOURS)).bool() & chosen["here"][..., None]
    events = [chosen["middle"], chosen["flash"] != NOTHING, chosen["digit"] != NOTHING, chosen["change"] > 0]
    return torch.cat([colours, torch.stack(events, -1)], -1)


def look_at_clip(chosen: Chosen, batch: Pack, layer: int) -> Look:
    """From a word to what it names: one head to all tokens that show it, one to the first of them, two to the last.

    The last head looks at the start of the clip as well: how much of it stays there says how many tokens there are.
    """
    row, column = (batch.points != NOTHING).nonzero(as_tuple=True)
    wanted = tags(chosen)[row, :, batch.points[row, column]]
    frame = (batch.kept // (GRID * GRID))[row]
    first = wanted & (frame == frame.masked_fill(~wanted, FRAMES).amin(-1, keepdim=True))
    last = wanted & (frame == frame.masked_fill(~wanted, -1).amax(-1, keepdim=True))
    seen = wanted.any(-1)
    heads = torch.stack([wanted, first, last, last], 1)[seen]
    start = torch.tensor([False] * (HEADS - 1) + [True]).expand(len(heads), -1)[..., None]
    return Look(layer, len(HEAD) - 1, (row[seen], column[seen]), torch.cat([start, heads], -1))


def look_at_words(batch: Pack, layer: int) -> Look:
    """From where an answer is written to the words of its question that name something, shared out among the heads."""
    row, column = (batch.target != NOTHING).nonzero(as_tuple=True)
    names = (batch.points != NOTHING)[row] & (batch.segment[row] == batch.segment[row, column][:, None])
    number, count = names.cumsum(-1) - 1, names.sum(-1)
    share = torch.arange(HEADS) * count[:, None] // HEADS
    wanted = names[:, None] & (number[:, None] == share[..., None])
    named = count > 0
    start = batch.positions.shape[-1] - batch.text.shape[-1]
    return Look(layer, start, (row[named], column[named]), wanted[named])


def at(values: dict[str, torch.Tensor], rows: torch.Tensor, columns: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: value[rows, columns] for name, value in values.items()}


def _still(tokens: torch.Tensor) -> np.ndarray:
    """(N,) similarity of each token with the one at its place in the frame before; -1 in the first frame."""
    frames = tokens.float().view(FRAMES, -1, WIDTH)
    alike = F.cosine_similarity(frames[1:], frames[:-1], dim=-1)
    return torch.cat([-torch.ones_like(alike[:1]), alike]).flatten().numpy()
