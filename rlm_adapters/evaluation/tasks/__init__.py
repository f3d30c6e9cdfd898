"""Tasks made from seeds: the same seed gives the same task, on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.tasks import hops, logs, needles, oolong, pages, programs
from rlm_adapters.evaluation.tasks.task import SPLITS, Family, Question, Split, Task, task_id

__all__ = ["FAMILIES", "VERSION", "Family", "Question", "Split", "Task", "make_task", "task_id", "tasks_of"]

VERSION: Final = 1
"""Increase it when a seed gives another task than before. A file has results of only one version."""

FAMILIES: Final[Mapping[str, Family]] = {
    "s_niah": needles.s_niah,
    "multi_needle": needles.multi_needle,
    "absent_answer": needles.absent_answer,
    "oolong_counts": oolong.counts,
    "oolong_users": oolong.users,
    "oolong_pairs": oolong.pairs,
    "multi_hop": hops.multi_hop,
    "code_question": programs.code_question,
    "log_aggregation": logs.log_aggregation,
    "long_output": logs.long_output,
    "pdf_page": pages.pdf_page,
}
"""Families by name. Each is modelled on a published benchmark or on a task of users."""

LEAST: Final = 4_000
MOST: Final = 100_000_000


def make_task(family: str, size: int, seed: int = 0, number: int = 0, split: Split = "held_out") -> Task:
    """Make a task.

    Args:
        family: name in `FAMILIES`.
        size: approximate size of its context, in bytes.
        seed: seed of the evaluation.
        number: index of the task.
        split: the half of the seeds. Train and held-out tasks of the same seed have nothing in common.

    Raises:
        InputError: the family or split does not exist, or the size is too small or too large.
    """
    if family not in FAMILIES:
        raise InputError(f"family={family!r} is unknown: give one of {', '.join(FAMILIES)}")
    if split not in SPLITS:
        raise InputError(f"split={split!r} is unknown: give one of {', '.join(SPLITS)}")
    if isinstance(size, bool) or not isinstance(size, int) or not LEAST <= size <= MOST:
        raise InputError(f"size={size!r}: give bytes from {LEAST:,} to {MOST:,}")
    chance = random.Random(f"{VERSION}/{task_id(family, size, split, seed, number)}")  # noqa: S311 - not for secrets
    question = FAMILIES[family](chance, size)
    return Task(family=family, size=size, split=split, seed=seed, number=number, question=question)


def tasks_of(
    families: Sequence[str], sizes: Sequence[int], samples: int, seed: int = 0, split: str = "held_out"
) -> Iterator[Task]:
    """Make tasks one after the other: ``samples`` of each family and size.

    Raises:
        InputError: as `make_task`.
    """
    for size in sizes:
        for family in families:
            for number in range(samples):
                yield make_task(family, size, seed, number, cast("Split", split))
