"""The yardstick: short rendered clips with questions whose answers are known, the same for the same seed.

    from framefusion.evaluation.synthetic_questions import samples
    for sample in samples(100, seed=0):
        sample.frames, sample.question, sample.answer, sample.choices

Twelve kinds of questions, from perception (colour, shape, digit) over motion and order to a needle that is on the
screen for one frame of 32. The embedded model was trained on clips of the same renderer from other seeds.
"""

from framefusion.evaluation.synthetic_questions.filmed_faster import FilmedFaster
from framefusion.evaluation.synthetic_questions.questions import KINDS, Question, chance, questions
from framefusion.evaluation.synthetic_questions.render import render
from framefusion.evaluation.synthetic_questions.samples import Sample, samples
from framefusion.evaluation.synthetic_questions.scene import FPS, FRAMES, SIDE, Scene, draw_scene

__all__ = [
    "FPS",
    "FRAMES",
    "KINDS",
    "SIDE",
    "FilmedFaster",
    "Question",
    "Sample",
    "Scene",
    "chance",
    "draw_scene",
    "questions",
    "render",
    "samples",
]
