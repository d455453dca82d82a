"""What the tests of streams share: a clip, its times, the dense answer, and logits behind a stream."""

from __future__ import annotations

from functools import cache

import torch

import framefusion as ff
from framefusion.engine.model.cache_names import cache_name
from framefusion.inference.answer.checkpoint import Checkpoint
from framefusion.inference.answer.prompt import build_prompt
from framefusion.inference.stream.prompt import Frames, clip_of
from framefusion.models.placeholders import placeholder_ids
from tests.behaviour.support import model
from tests.support.tiny import moving_clip, processor

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5", "llava_onevision", "internvl", "smolvlm")
FEW = ("qwen2_5_vl", "qwen3_5", "llava_onevision")
QUESTION = "what happens here?"
EVERYTHING = 10**6


@cache
def clip(frames=12, seed=0):
    return moving_clip(frames, seed=seed)


def seconds(frames=12, begin=0.0):
    return tuple(begin + 0.25 * number for number in range(frames))


def stream(name, **options):
    return ff.stream(model(name), processor(name), **{"memory": EVERYTHING, "policy": "none", "window": 4, **options})


def watched(name, frames=12, **options):
    """A stream of that many frames."""
    video = stream(name, **options)
    video.feed(clip(frames), seconds(frames))
    return video


def one_prompt(name, frames=12, question=QUESTION):
    """The processor's own prompt of all frames."""
    return build_prompt(
        Checkpoint(name, model(name), processor(name)), clip_of(Frames(clip(frames), seconds(frames))), question
    )


def told_like_a_stream(name, inputs):
    """The same prompt, which does not say how many frames it has."""
    visual = torch.isin(inputs["input_ids"][0], torch.tensor(placeholder_ids(model(name).config)))
    tokenizer = processor(name).tokenizer
    text = tokenizer.decode(inputs["input_ids"][0][: int(visual.nonzero()[0])])
    if "twelve frames from a 0:00:03 [H:MM:SS] video" not in text:
        return inputs
    front = tokenizer(text.replace("twelve frames from a 0:00:03 [H:MM:SS] video", "frames from a video"))["input_ids"]
    ids = torch.cat([torch.tensor(front), inputs["input_ids"][0][int(visual.nonzero()[0]) :]])[None]
    return inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def dense_logits(name, frames=12, question=QUESTION):
    """(n, V) of the columns behind the last frame, of the one prompt, and the new tokens of its answer."""
    inputs = told_like_a_stream(name, one_prompt(name, frames, question))
    logits = model(name)(**inputs).logits[0]
    answer = model(name).generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return logits, processor(name).tokenizer.decode(answer, skip_special_tokens=True).strip()


@torch.no_grad()
def stream_logits(video, question=QUESTION):
    """(n, V) of the columns of a question behind a stream without waiting frames."""
    watching, state = video._watching, video._watched.state
    ids = watching.writer.question(state.last, question)
    with watching.reader.turn() as owner, watching._asked([state], ids, owner) as (cache, _):
        return watching.reader.model(input_ids=ids, **{cache_name(): cache}, use_cache=True).logits[0]


def tensors(video):
    """Every tensor of a stream's memory, by name, cloned."""
    memory, found = video._watched.state.memory, {}
    for number, layer in memory.layers.items():
        found |= {f"{number}.{name}": getattr(layer, name).clone() for name in ("keys", "values", "about")}
    for number, states in memory.states.items():
        for name in ("conv_states", "recurrent_states"):
            held = states[name]
            held = held if isinstance(held, dict) else {0: held}
            found |= {f"{number}.{name}.{key}": state.clone() for key, state in held.items()}
    return found


def assert_same(one, two, atol=0.0):
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=atol, rtol=0)
