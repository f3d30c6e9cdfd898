"""The plan of an evaluation: tasks from seeds and public data in each setting, checked before any call is paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.public import public_data
from rlm_adapters.evaluation.settings import cut_to_window, setting_of
from rlm_adapters.evaluation.tasks import FAMILIES, LEAST, MOST, make_task, task_id
from rlm_adapters.evaluation.tasks.task import SPLITS, Split, Task


@dataclass(frozen=True, slots=True)
class Planned:
    """A task that is not made yet.

    Attributes:
        id: id of the task.
        family: its family.
        size: its size.
        make: makes the task; slow.
    """

    id: str
    family: str
    size: int
    make: Callable[[], Task]


class Plan:
    """The checked plan of an evaluation."""

    def __init__(
        self,
        *,
        families: Sequence[str] | None,
        data: Sequence[str],
        sizes: Sequence[int],
        samples: int,
        seed: int,
        split: str,
        settings: Sequence[str],
        parallel: int,
        budget: float | None,
    ) -> None:
        for name, value, least in (("samples", samples, 1), ("parallel", parallel, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: give an integer of at least {least}")
        if split not in SPLITS:
            raise InputError(f"split={split!r} is unknown: give one of {', '.join(SPLITS)}")
        if budget is not None and not (isinstance(budget, int | float) and 0 < budget < float("inf")):
            raise InputError(f"budget={budget!r}: give dollars, more than 0")
        public = [public_data(one, samples, seed) for one in (_listed("data", data) if data else ())]
        if families is None and public:
            generated = []
        else:
            generated = _listed("families", list(FAMILIES) if families is None else families)
        for family in generated:
            for size in _listed("sizes", sizes):
                _check_task(family, size)
        self.tasks = [
            *_generated(generated, sizes, samples, seed, split),
            *(_ready(task) for tasks in public for task in tasks),
        ]
        self.families = list(dict.fromkeys(task.family for task in self.tasks))
        self.sizes = sorted({task.size for task in self.tasks})
        self.settings = [setting_of(one) for one in _listed("settings", settings)]
        self.seed, self.split, self.parallel, self.budget = seed, split, parallel, budget

    def cut_at(self, window: int | None) -> int | None:
        """The window, if inputs are cut to it. Results with different windows belong to different settings.

        Raises:
            InputError: the window is needed but unknown.
        """
        if all(one.way != "cut" for one in self.settings):
            return None
        if isinstance(window, bool) or not isinstance(window, int):
            raise InputError("direct-cut needs the model's window, which is unknown: give window=128000 (--window)")
        cut_to_window("", "", window)
        self.settings = [replace(one, key=f"{one.key}-{window}") if one.way == "cut" else one for one in self.settings]
        return window


def _generated(families: Sequence[str], sizes: Sequence[int], samples: int, seed: int, split: str) -> Iterator[Planned]:
    """Tasks from seeds, small ones first, to show mistakes early."""
    for size in sorted(set(sizes)):
        for number in range(samples):
            for family in families:
                make = partial(make_task, family, size, seed, number, cast("Split", split))
                yield Planned(task_id(family, size, split, seed, number), family, size, make)


def _ready(task: Task) -> Planned:
    return Planned(task.id, task.family, task.size, lambda: task)


def _listed(name: str, values: Any) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InputError(f"{name}={values!r}: give a list with at least one")
    return list(dict.fromkeys(values))


def _check_task(family: Any, size: Any) -> None:
    if family not in FAMILIES:
        raise InputError(f"family={family!r} is unknown: give one of {', '.join(FAMILIES)}")
    if isinstance(size, bool) or not isinstance(size, int) or not LEAST <= size <= MOST:
        raise InputError(f"size={size!r}: give bytes from {LEAST:,} to {MOST:,}")
