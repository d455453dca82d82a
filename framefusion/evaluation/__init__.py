"""What reduction costs in answers: the same questions dense, reduced and with controls, with paired intervals.

    from framefusion.evaluation import evaluate

    found = evaluate(checkpoint, ff.FrameFusion(), costs=(0.5, 0.3))
    found.dense.accuracy, found.reduced.score.accuracy, found.comparisons

Answers are kept one by one (`records.py`), each under the key of its cell (`cells.py`), and everything else is computed
from them; `runner.answer_all` fills any set of cells, so a larger grid needs no other machinery.
"""

from framefusion.evaluation.comparison import CONTROLS, evaluate
from framefusion.evaluation.overview import evaluate_all
from framefusion.evaluation.records import Records
from framefusion.evaluation.result import Evaluation
from framefusion.evaluation.runner import Asking

__all__ = ["CONTROLS", "Asking", "Evaluation", "Records", "evaluate", "evaluate_all"]
