"""Rows of a `ray.data.Dataset`: a class for its ``map_batches``."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, cast

from rlm_adapters.cluster.settings import check_counts
from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.asking import ask_row
from rlm_adapters.datasets.cluster.host import Make, RowSettings
from rlm_adapters.datasets.cluster.job import RayJob
from rlm_adapters.datasets.cluster.ledger import LedgerLostError
from rlm_adapters.datasets.engines import Engine
from rlm_adapters.datasets.rows import Row, row_id
from rlm_adapters.effects import together
from rlm_adapters.errors import InputError, ModelCallError
from rlm_adapters.models.job import Job, JobLedger
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits

COLUMNS: Final = ("answer", "error_kind", "error", "finish_reason", "input_tokens", "output_tokens", "cost", "run_id")
"""That `AskRows` adds to a batch. ``answer`` is JSON."""

_DYING_SECONDS: Final = 15.0
"""In which a process ends whose node was lost. It misses the job's actor first, and must not call that an error."""


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
        id: column that names a row in the answers of the job; default: a hash of what the row says. Rows of one name
            are one row.
        job: budget and answers of the whole job; None: there is no budget, and nothing is kept.
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
        id: str | None = None,  # noqa: A002 - as of `map_rows`
        job: RayJob | None = None,
        rows_at_once: int = 16,
        share: int = 1,
    ) -> None:
        check_counts(rows_at_once=rows_at_once, share=share)
        self._job = job
        self._id = id
        self._rows_at_once = rows_at_once
        self._stack = AsyncExitStack()
        self._numbers = itertools.count()
        self._name = uuid.uuid4().hex
        self._loop = asyncio.new_event_loop()  # of one thread, for all batches: clients keep their connections
        threading.Thread(target=self._loop.run_forever, daemon=True, name="rlm-rows").start()
        settings = RowSettings(make=make, question=question, fields=fields)
        self._engine: Engine = self._done(settings.open(self._stack))
        if job is not None:
            self._engine.check_prices(job.limits)
            asked = {**self._engine.describe(), "id": id}
            job.ask("begin", asked, self._engine.prices, job.me(), self._name).result()
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
            self._row({name: values[number] for name, values in columns.items()}, f"row {number} of a batch")
            for number in range(count)
        ]
        for row in rows:
            self._engine.check_row(row)
        answers: list[Answer] = self._done(self._asked(rows))
        return {**columns, **_columns(answers)}

    def _row(self, values: Mapping[str, Any], place: str) -> Row:
        return Row(row_id(values, place, self._id), values, place)

    def _done(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _asked(self, rows: Sequence[Row]) -> list[Answer]:
        places = asyncio.Semaphore(self._rows_at_once)
        answers: dict[int, Answer] = {}

        async def one(number: int, row: Row) -> None:
            async with places:
                try:
                    answers[number] = await self._ask(row)
                except LedgerLostError:
                    await asyncio.sleep(_DYING_SECONDS)
                    raise

        await together([one(number, row) for number, row in enumerate(rows)])
        return [answers[number] for number in range(len(rows))]

    async def _ask(self, row: Row) -> Answer:
        if self._job is None:
            ledger = JobLedger(Limits(max_calls=None), self._engine.prices)
            answer, failure = await ask_row(self._engine, row, Job(ledger, self._limiter))
        elif (kept := await asyncio.wrap_future(self._job.ask("kept", row.id))) is not None:
            return cast("Answer", kept)
        else:
            name = f"{self._name}-{next(self._numbers)}"
            far = self._job.ledger(name, self._engine.prices)
            answer, failure = await ask_row(self._engine, row, Job(far, self._limiter))
            await far.all_told()
            await asyncio.wrap_future(self._job.ask("keep", name, answer))
        if isinstance(failure, ModelCallError) and failure.permanent:
            raise failure
        return answer


def _listed(values: Any) -> list[Any]:
    """A column as a list of plain values: Ray gives arrays, also within arrays."""
    return [_plain(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


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
