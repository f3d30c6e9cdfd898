"""One start of an evaluation: ask the tasks that have no result, within one budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rlm_adapters.effects import together
from rlm_adapters.evaluation.asking import OUT_OF_MONEY, Asker
from rlm_adapters.evaluation.evaluation import Evaluation
from rlm_adapters.evaluation.plan import Plan, Planned
from rlm_adapters.evaluation.results import Result, ResultsFile
from rlm_adapters.evaluation.settings import Setting
from rlm_adapters.models.job import Job, JobLedger
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.usage import known_cost

OnResult = Callable[[Result, Evaluation], object]

INTERRUPTED: Final = "interrupted"
"""Finish reason of a task that was running when the evaluation was stopped."""


class Start:
    """One start of an evaluation.

    Args:
        plan: the tasks and settings.
        asker: asks one task.
        file: the file of results.
        asked: models, limits, and the parameters of the tasks.
        on_result: called with each result.
    """

    def __init__(
        self, plan: Plan, asker: Asker, file: ResultsFile, asked: Mapping[str, Any], on_result: OnResult | None
    ) -> None:
        self._plan = plan
        self._asker = asker
        self._file = file
        self._on_result = on_result
        self._prices = PriceTable(asker.prices)
        whole = Limits(max_calls=None, max_cost=plan.budget, max_output_tokens=asker.limits.max_output_tokens)
        self._ledger = JobLedger(whole, self._prices)
        for one in file.results:
            self._ledger.book(one.usage)
        self._limiter = Limiter.of(asker.limits)
        keys = {(setting.key, task.id) for setting in plan.settings for task in plan.tasks}
        before = {one.key: one for one in file.results if not one.void}
        self._done = set(before) & keys
        self._evaluation = Evaluation(
            asked=asked,
            settings=plan.settings,
            families=plan.families,
            sizes=plan.sizes,
            total=len(keys),
            results=[one for key, one in before.items() if key in keys],
            spent=sum(known_cost(one.usage) for one in file.results),
        )

    async def run(self) -> Evaluation:
        """Ask all tasks that have no result."""
        left = iter([task for task in self._plan.tasks if self._missing(task)])
        await together([self._work(left) for _ in range(self._plan.parallel)])
        return self._evaluation

    def _missing(self, task: Planned) -> list[Setting]:
        return [one for one in self._plan.settings if (one.key, task.id) not in self._done]

    async def _work(self, left: Iterator[Planned]) -> None:
        """Make one task after the other, and ask it in each setting."""
        for planned in left:
            if self._is_stopped():
                return
            task = await asyncio.to_thread(planned.make)
            for setting in self._missing(planned):
                if self._is_stopped():
                    return
                job = Job(JobLedger(Limits(max_calls=None), self._prices, around=self._ledger), self._limiter)
                try:
                    result = await self._asker.ask(setting, task, job)
                except asyncio.CancelledError:
                    self._interrupted(setting, planned, job)
                    raise
                await self._note(result)

    def _interrupted(self, setting: Setting, task: Planned, job: Job) -> None:
        """Note the cost of an unfinished task, because it counts for the budget."""
        used = job.ledger.used
        if used["input_tokens"]:
            result = Result(
                setting=setting.key, task=task.id, family=task.family, size=task.size,
                finish_reason=INTERRUPTED, usage=used, void=True,
            )  # fmt: skip
            with contextlib.suppress(OSError):  # the user sees the error that stopped the evaluation, not this one
                self._file.write(result)

    def _is_stopped(self) -> bool:
        if self._evaluation.stopped is None and self._ledger.exhausted() is not None:
            self._stop()
        return self._evaluation.stopped is not None

    async def _note(self, result: Result) -> None:
        found = self._evaluation
        found.spent += known_cost(result.usage)
        found.asked_now += 1
        await asyncio.to_thread(self._file.write, result)
        if result.void:
            found.voids += 1
            if result.finish_reason == OUT_OF_MONEY:
                self._stop()
        else:
            found.results.append(result)
        if self._on_result is not None:
            self._on_result(result, found)

    def _stop(self) -> None:
        self._evaluation.stopped = (
            f"the budget of ${self._plan.budget:g} does not suffice (${self._evaluation.spent:.4f} are spent): give a "
            "larger one, and start again to go on"
        )
