"""Evaluating models and settings on tasks that are made from seeds; see docs/evaluation.md."""

from __future__ import annotations

from rlm_adapters.evaluation.devset import devset, metric
from rlm_adapters.evaluation.evaluate import Evaluation, aevaluate, evaluate
from rlm_adapters.evaluation.figures import Figures, wilson
from rlm_adapters.evaluation.results import Result
from rlm_adapters.evaluation.scoring import Score, score
from rlm_adapters.evaluation.settings import Setting, setting_of
from rlm_adapters.evaluation.tasks import FAMILIES, Question, Task, make_task, tasks_of

__all__ = [
    "FAMILIES",
    "Evaluation",
    "Figures",
    "Question",
    "Result",
    "Score",
    "Setting",
    "Task",
    "aevaluate",
    "devset",
    "evaluate",
    "make_task",
    "metric",
    "score",
    "setting_of",
    "tasks_of",
    "wilson",
]
