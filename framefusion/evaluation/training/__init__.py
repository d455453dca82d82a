"""Train a reducer, or a model under a reduction, on questions with known answers; the model itself stays frozen.

`run.train` is the call behind `framefusion train`. The loop is that of transformers' Trainer.
"""

from framefusion.evaluation.training.course import read_course
from framefusion.evaluation.training.result import Training
from framefusion.evaluation.training.run import train
from framefusion.evaluation.training.settings import Settings

__all__ = ["Settings", "Training", "read_course", "train"]
