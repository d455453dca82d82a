"""The long yardstick: streams of any length, filmed frame by frame, with questions whose answers are known.

    from framefusion.evaluation.long_streams import draw_world, film, questions
    world = draw_world(seed=0, frames=7200)
    for frame in film(world): ...
    for question in questions(world): question.at, question.text, question.answer, question.age

A quiet place is visited once by a thing of each colour, for the seconds that a clip of the short yardstick lasts. After
each visit everything so far is asked about: what the visitor looked like and where it went, a digit, a flash, and which
of two came first. So each question has an age, from just now to the length of the stream.
"""

from framefusion.evaluation.long_streams.accuracy import AGES, Group, by_age
from framefusion.evaluation.long_streams.film import film
from framefusion.evaluation.long_streams.measure import CONTROLS, EVEN, FRESH, LAST, Answered, Setting, measure
from framefusion.evaluation.long_streams.questions import LongQuestion, questions
from framefusion.evaluation.long_streams.world import FPS, HOUR, VISIT, World, draw_world

__all__ = [
    "AGES",
    "CONTROLS",
    "EVEN",
    "FPS",
    "FRESH",
    "HOUR",
    "LAST",
    "VISIT",
    "Answered",
    "Group",
    "LongQuestion",
    "Setting",
    "World",
    "by_age",
    "draw_world",
    "film",
    "measure",
    "questions",
]
