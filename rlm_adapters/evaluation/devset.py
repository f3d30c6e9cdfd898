"""The tasks as a DSPy devset, with a metric, to optimise prompts on the train half of the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from rlm_adapters.errors import InputError, MissingExtraError
from rlm_adapters.evaluation.scoring import score
from rlm_adapters.evaluation.tasks import FAMILIES, make_task, tasks_of
from rlm_adapters.evaluation.tasks.task import Split

if TYPE_CHECKING:
    import dspy


def devset(
    families: Sequence[str] | None = None,
    sizes: Sequence[int] = (10_000,),
    samples: int = 3,
    *,
    seed: int = 0,
    split: Split = "train",
) -> list[dspy.Example]:
    """Tasks as examples for ``RLM("context, query -> answer")``: inputs ``context`` and ``query``, and an ``answer``.

    `evaluate` and ``rlm eval`` use the held-out half by default, so a prompt that was optimised on this devset is
    judged on new tasks.

    Args:
        families: names in `FAMILIES`; default: all.
        sizes: sizes of the contexts, in bytes.
        samples: tasks of each family and size.
        seed: another seed gives other tasks.
        split: the half of the seeds.

    Raises:
        InputError: a family, size or split does not exist.
        MissingExtraError: DSPy is not installed.
    """
    try:
        import dspy  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("devset() needs DSPy: pip install 'rlm-adapters[dspy]'") from error
    return [
        dspy.Example(
            context=task.question.context, query=task.question.text, answer=task.question.answer, task=task.id
        ).with_inputs("context", "query")
        for task in tasks_of(list(FAMILIES) if families is None else families, sizes, samples, seed, split)
    ]


def metric(example: Any, prediction: Any, *_: Any, **__: Any) -> float:
    """The score of a prediction's ``answer``, from 0 to 1; 1 only if all of it is right.

    For GEPA, use `gepa_metric(metric)`.

    Args:
        example: of `devset`.
        prediction: with a field ``answer``.
        _: other arguments of optimizers; not used.

    Raises:
        InputError: the example is not of `devset`.
    """
    try:
        family, size, split, seed, number = str(example.task).split("/")
        task = make_task(family, int(size), int(seed), int(number), cast("Split", split))
    except (AttributeError, ValueError) as error:
        raise InputError(f"example={str(example)[:200]}: give an example of devset() ({error})") from error
    return score(task.question, getattr(prediction, "answer", None)).value
