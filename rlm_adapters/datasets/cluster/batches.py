"""Rows of a `ray.data.Dataset`: a class for its ``map_batches``, and a budget that all its actors share."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.settings import check_address, check_counts, check_seconds
from rlm_adapters.cluster.versions import version_here
from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.asking import ask_row
from rlm_adapters.datasets.cluster.host import Make, as_fields, entered
from rlm_adapters.datasets.cluster.ledger import FarLedger, LedgerHost
from rlm_adapters.datasets.engines import Engine, engine_of
from rlm_adapters.datasets.rows import Row
from rlm_adapters.errors import InputError, ModelCallError
from rlm_adapters.models.job import Job, JobLedger
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.usage import Usage, empty_usage

COLUMNS: Final = ("answer", "error_kind", "error", "finish_reason", "input_tokens", "output_tokens", "cost", "run_id")
"""That `AskRows` adds to a batch. ``answer`` is JSON."""


class JobBudget:
    """One budget for all actors of a job on a cluster, kept by an actor that ends with this process.

    Args:
        max_cost: US dollars.
        max_calls: model calls of every kind.
        max_tokens: input and output tokens.
        prices: of models, as of `create_rlm_graph`.
        address: as of `RaySandbox`.
        connect_seconds: in which the cluster must answer.

    Raises:
        InputError: an argument makes no sense.
        MissingExtraError: Ray is not installed.
        ClusterError: the cluster cannot be reached.
    """

    def __init__(
        self,
        *,
        max_cost: float | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        prices: Mapping[str, Any] | None = None,
        address: str | None = None,
        connect_seconds: float = 30.0,
    ) -> None:
        check_address(address)
        check_seconds(connect_seconds=connect_seconds)
        self._library = Library("JobBudget")
        self._library.connect(address, connect_seconds)
        self.limits = Limits(max_cost=max_cost, max_calls=max_calls, max_tokens=max_tokens)
        self.host: Any = self._library.actor(
            LedgerHost,
            {"num_cpus": 0, "max_concurrency": 1_000_000, "scheduling_strategy": self._library.beside_this_process()},
            version_here(),
            self.limits,
            PriceTable(prices),
            empty_usage(),
        )

    def used(self) -> Usage:
        """What the job has used so far. Blocks.

        Raises:
            SandboxError: the actor that keeps the budget is lost.
        """
        usage: Usage = self._library.ask(self.host, "used").result()
        return usage

    def __getstate__(self) -> dict[str, Any]:
        return {"limits": self.limits, "host": self.host}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.limits, self.host = state["limits"], state["host"]
        self._library = Library("JobBudget")


class AskRows:
    """Asks each row of the batches that it is given, for ``ray.data``.

        dataset.map_batches(
            AskRows, fn_constructor_kwargs={"make": make, "question": "What is {name}?"}, batch_size=16, concurrency=4
        )

    A batch comes back with the columns of `COLUMNS`. A row that failed has an ``error_kind`` and an ``error``, as
    `map_rows` writes them, and no answer or the best so far.

    Args:
        make: a function that gives a graph of `create_rlm_graph`, a `ChatRLM` or an `RLM`, or an asynchronous context
            manager of one; called once in each actor.
        question: with ``{column}`` where a value of the row goes; None for an `RLM`.
        fields: columns that are the context, as of `map_rows`.
        budget: of the whole job; None: there is none.
        rows_at_once: of a batch.
        share: actors that share what the engine's limits allow of calls at once and a minute.

    Raises:
        InputError: an argument makes no sense.
    """

    def __init__(
        self,
        make: Make,
        question: str | None = None,
        *,
        fields: Sequence[str] | str | None = None,
        budget: JobBudget | None = None,
        rows_at_once: int = 16,
        share: int = 1,
    ) -> None:
        check_counts(rows_at_once=rows_at_once, share=share)
        self._library = None if budget is None else Library("AskRows")
        self._budget = budget
        self._rows_at_once = rows_at_once
        self._stack = AsyncExitStack()
        self._numbers = itertools.count()
        self._name = uuid.uuid4().hex
        self._loop = asyncio.new_event_loop()  # of one thread, for all batches: clients keep their connections
        threading.Thread(target=self._loop.run_forever, daemon=True, name="rlm-rows").start()
        self._engine: Engine = self._done(self._open(make, question, fields))
        if budget is not None:
            self._engine.check_prices(budget.limits)
        self._limiter = Limiter.of(self._engine.limits, share=share)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the rows of a batch.

        Raises:
            InputError: they lack a column.
            ModelCallError: a model refuses every call (key, name, address, account).
        """
        columns = {name: _listed(values) for name, values in batch.items()}
        clash = sorted(columns.keys() & set(COLUMNS))
        if clash:
            raise InputError(f"the rows have a column {clash[0]!r} already, which AskRows adds: rename it before")
        count = len(next(iter(columns.values()), ()))
        rows = [
            Row(number, {name: values[number] for name, values in columns.items()}, f"row {number} of a batch")
            for number in range(count)
        ]
        for row in rows:
            self._engine.check_row(row)
        answers: list[Answer] = self._done(self._asked(rows))
        return {**columns, **_columns(answers)}

    def _done(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, make: Make, question: str | None, fields: Sequence[str] | str | None) -> Engine:
        return engine_of(await entered(make, self._stack), question, as_fields(fields))

    async def _asked(self, rows: Sequence[Row]) -> list[Answer]:
        places = asyncio.Semaphore(self._rows_at_once)

        async def one(row: Row) -> Answer:
            async with places:
                return await self._ask(row)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(row)) for row in rows]
        return [task.result() for task in tasks]

    async def _ask(self, row: Row) -> Answer:
        prices = self._engine.prices
        if self._budget is None or self._library is None:
            answer, failure = await ask_row(
                self._engine, row, Job(JobLedger(Limits(max_calls=None), prices), self._limiter)
            )
        else:
            name = f"{self._name}-{next(self._numbers)}"
            ledger = FarLedger(self._library, self._budget.host, name, prices)
            try:
                answer, failure = await ask_row(self._engine, row, Job(ledger, self._limiter))
            finally:
                await asyncio.wrap_future(self._library.ask(self._budget.host, "finish", name))
        if isinstance(failure, ModelCallError) and failure.permanent:
            raise failure
        return answer


def _listed(values: Any) -> list[Any]:
    """A column as a list of plain values: Ray gives arrays."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _columns(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    return {
        "answer": [json.dumps(one.answer, ensure_ascii=False, default=str) for one in answers],
        "error_kind": ["" if one.error is None else one.error["kind"] for one in answers],
        "error": ["" if one.error is None else one.error["message"] for one in answers],
        "finish_reason": [one.finish_reason or "" for one in answers],
        "input_tokens": [int(one.usage.get("input_tokens", 0)) for one in answers],
        "output_tokens": [int(one.usage.get("output_tokens", 0)) for one in answers],
        "cost": [float(one.usage.get("cost") or 0.0) for one in answers],
        "run_id": [one.run_id for one in answers],
    }
