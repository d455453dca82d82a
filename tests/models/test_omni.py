"""An omni model is reduced where it reads: in its thinker."""

from __future__ import annotations

import torch

import framefusion as ff
from framefusion.testing.conformance.contract import Halve
from framefusion.testing.conformance.toy import build, spliced, toy_of


def test_the_whole_model_answers_with_a_reduced_thinker() -> None:
    whole = build("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration")
    whole.speaker_map["Chelsie"] = {}  # checkpoints bring a file of voices
    toy = toy_of(whole.thinker)
    given = toy.prompt()
    arguments = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}
    with torch.no_grad(), spliced(whole.thinker, given), ff.reduce(whole, Halve()) as reduction:
        answer = whole.generate(
            **given.inputs, generation_mode="text", **{f"thinker_{name}": value for name, value in arguments.items()}
        )
        assert reduction.report.visual_tokens == 2 * toy.tokens
        assert abs(reduction.report.cost - 0.5) < 0.1
    with torch.no_grad(), spliced(whole.thinker, given), ff.reduce(whole.thinker, Halve()):
        assert torch.equal(answer, whole.thinker.generate(**given.inputs, **arguments))
