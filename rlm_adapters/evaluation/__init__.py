"""Evaluate models and settings on tasks from seeds and on public data. See docs/evaluation.md."""

from __future__ import annotations

from rlm_adapters.evaluation.devset import devset, metric
from rlm_adapters.evaluation.evaluate import aevaluate, evaluate
from rlm_adapters.evaluation.evaluation import Evaluation
from rlm_adapters.evaluation.figures import Figures, wilson
from rlm_adapters.evaluation.public import DATASETS, public_data
from rlm_adapters.evaluation.results import Result
from rlm_adapters.evaluation.scoring import Score, score
from rlm_adapters.evaluation.settings import Setting, setting_of
from rlm_adapters.evaluation.tasks import FAMILIES, Question, Task, make_task, tasks_of

__all__ = [
    "DATASETS",
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
    "public_data",
    "score",
    "setting_of",
    "tasks_of",
    "wilson",
]
