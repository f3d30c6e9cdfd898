"""One start of a job: ask the rows without an answer, and write each answer when it is there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from rlm_adapters.datasets.answers import Answer, Answers, open_answers
from rlm_adapters.datasets.asking import INTERRUPTED, JOB_BUDGET, LocalAsker, RowAsker, StoppedError
from rlm_adapters.datasets.engines import Engine
from rlm_adapters.datasets.ids import Ids
from rlm_adapters.datasets.result import MapResult
from rlm_adapters.datasets.rows import Row, Rows, check_exists, is_file, name_of, read_rows
from rlm_adapters.effects import together
from rlm_adapters.errors import (
    PERMANENT,
    ContentError,
    InputError,
    ModelCallError,
    RLMError,
    SandboxError,
)
from rlm_adapters.models.failures import classify
from rlm_adapters.models.job import JobLedger
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.usage import empty_usage, subtract_usage

T = TypeVar("T")

OPEN: Final = frozenset({*PERMANENT, JOB_BUDGET, INTERRUPTED})
"""Kinds of failures that do not depend on the row. The next start asks it again."""

_FAILURES_IN_A_ROW: Final = 10
_AHEAD: Final = 4  # with `ordered`: most finished rows that wait for an earlier one, as a multiple of the concurrency


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A job with checked options; `amap_rows` describes them."""

    engine: Engine
    asker: Callable[[JobLedger, PriceTable, int], RowAsker] | None = None
    """Makes what asks the rows, from the ledger, the prices and the concurrency; None: this process asks them."""
    rows: Rows
    output: str | Path
    budget: Limits
    id_field: str | None
    concurrency: int
    limit: int | None
    retry_failed: bool
    ordered: bool


class Start:
    """One start of a job.

    Args:
        asked: the job.
        on_progress: called with the result so far.
    """

    _ids: Ids
    _rows: Iterator[Row]
    _answers: Answers

    def __init__(self, asked: Asked, on_progress: Callable[[MapResult], object] | None) -> None:
        self._asked = asked
        self._engine = asked.engine
        self._on_progress = on_progress
        self._ledger = JobLedger(asked.budget, asked.engine.prices)
        self._asker: RowAsker = (
            LocalAsker(asked.engine, self._ledger)
            if asked.asker is None
            else asked.asker(self._ledger, asked.engine.prices, asked.concurrency)
        )
        self._ahead = _AHEAD * asked.concurrency if asked.ordered else None
        self._done = MapResult(rows=len(asked.rows) if isinstance(asked.rows, list | tuple) else None)
        self._failures: Counter[str] = Counter()
        self._in_a_row = 0
        self._before = empty_usage()
        self._began = time.monotonic()
        self._taking = asyncio.Lock()
        self._turn = asyncio.Condition()
        self._file_lock = threading.Lock()
        self._taken = 0
        self._next = 0
        self._waiting: dict[int, Answer] = {}

    async def run(self) -> MapResult:
        """Ask all rows that have no answer."""
        self._ids = await _aside(Ids, Ids.close)
        try:
            await _aside(self._check)
            self._answers = await _aside(self._open, lambda answers: answers.close())
            try:
                await _aside(self._read_answers)
                async with self._asker:
                    await together([self._work() for _ in range(self._asked.concurrency)])
            except BaseException:
                self._close()  # not in a thread: after a cancellation nothing can be awaited
                raise
            await _aside(self._close)
        finally:
            self._ids.close()
        self._tell()
        return self._done

    # -- before the first row, in a thread

    def _check(self) -> None:
        """Check all data before any model is called, if it can be read twice."""
        self._engine.check_prices(self._asked.budget)
        check_exists(self._asked.rows)
        if not is_file(self._asked.rows):
            self._rows = self._read(twice=False)
            return
        count = sum(1 for _ in self._read(twice=False))
        self._done = replace(self._done, rows=count)
        self._rows = self._read(twice=True)

    def _read(self, *, twice: bool) -> Iterator[Row]:
        """The checked rows. Rows that are read twice were checked before."""
        count = 0
        for row in islice(read_rows(self._asked.rows, self._asked.id_field), self._asked.limit):
            if not twice:
                self._engine.check_row(row)
                if self._asked.id_field is not None and not self._ids.see(row.id):
                    raise InputError(
                        f"{row.place} has the id {self._asked.id_field}={row.id!r}, which an earlier row has, too: "
                        "name another column, or none (--id)"
                    )
            count += 1
            yield row
        if not count:
            raise InputError(f"{name_of(self._asked.rows)} has no rows")

    def _open(self) -> Answers:
        return open_answers(self._asked.output, {**self._engine.describe(), "id": self._asked.id_field})

    def _read_answers(self) -> None:
        for answer in self._answers.read():
            self._ledger.book(answer.usage)
            if answer.error is None or not (self._asked.retry_failed or answer.error["kind"] in OPEN):
                self._ids.answer(answer.id)
            else:
                self._ids.ask_again(answer.id)
        self._before = self._ledger.used

    # -- the rows

    async def _work(self) -> None:
        while (taken := await self._take()) is not None:
            place, row = taken
            answer, failure = await self._ask(row)
            await self._put(place, answer)
            self._count(answer, failure)

    async def _take(self) -> tuple[int, Row] | None:
        """The next row to ask, and its index; None if there is none."""
        async with self._taking:
            async with self._turn:
                await self._turn.wait_for(lambda: self._ahead is None or self._taken - self._next < self._ahead)
            if self._is_over():
                return None
            row = await _aside(self._next_row)
            if row is None:
                return None
            self._taken += 1
            return self._taken - 1, row

    def _is_over(self) -> bool:
        if self._done.stopped is None and (limit := self._ledger.exhausted()) is not None:
            refusal = self._ledger.refusal or f"{limit}={getattr(self._asked.budget, limit)} of the job is reached"
            self._done = replace(self._done, stopped=str(refusal))
        return self._done.stopped is not None

    def _next_row(self) -> Row | None:
        for row in self._rows:
            if not self._ids.is_answered(row.id):
                return row
            self._done = replace(self._done, skipped=self._done.skipped + 1)
        return None

    async def _ask(self, row: Row) -> tuple[Answer, Exception | None]:
        """Ask a row. If it is stopped in the middle, its cost is noted here."""
        try:
            return await self._asker.ask(row)
        except StoppedError as stopped:
            self._write(stopped.answer)
            raise asyncio.CancelledError from None

    async def _put(self, place: int, answer: Answer) -> None:
        """Write an answer, in order if ``ordered``."""
        if self._ahead is None:
            await self._written(answer)
            return
        async with self._turn:
            self._waiting[place] = answer
            while (ready := self._waiting.pop(self._next, None)) is not None:
                self._next += 1
                await self._written(ready)
            self._turn.notify_all()

    async def _written(self, answer: Answer) -> None:
        """Write an answer. A cancellation waits for it."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, answer))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    def _count(self, answer: Answer, failure: Exception | None) -> None:
        """Count the result of a row, and decide whether to ask the others.

        Raises:
            RLMError: no further row should be asked.
        """
        done = self._done
        if answer.error is None:
            self._in_a_row = 0
            self._done = replace(done, answered=done.answered + 1)
        else:
            self._failures[answer.error["kind"]] += 1
            self._done = replace(done, failed=done.failed + 1, failures=dict(self._failures))
            if answer.error["kind"] == JOB_BUDGET:
                self._done = replace(self._done, stopped=answer.error["message"])
        self._tell()
        if failure is None:
            return
        known = failure if isinstance(failure, RLMError) else classify(failure)
        if isinstance(known, ModelCallError) and known.permanent:
            raise known
        if _is_of_the_machine(known):
            self._in_a_row += 1
        if self._in_a_row >= max(_FAILURES_IN_A_ROW, 2 * self._asked.concurrency):
            raise RLMError(
                f"the last {self._in_a_row} rows failed one after the other, so the others were not asked; the last "
                f"one: {known}. When this is fixed, start again with --retry-failed (retry_failed=True)"
            ) from failure

    def _tell(self) -> None:
        used = self._ledger.used
        self._done = replace(
            self._done, usage=subtract_usage(used, self._before), job_usage=used, seconds=time.monotonic() - self._began
        )
        if self._on_progress is not None:
            self._on_progress(self._done)

    def _write(self, answer: Answer) -> None:
        with self._file_lock:
            self._answers.write(answer)

    def _close(self) -> None:
        with self._file_lock:
            try:
                for place in sorted(self._waiting):  # finished rows after an unfinished one
                    self._answers.write(self._waiting[place])
            finally:
                self._answers.close()


def _is_of_the_machine(error: RLMError) -> bool:
    """Whether a failure comes from the model or the machine, and not from its row."""
    if isinstance(error, ModelCallError):
        return error.retryable or error.kind == "other"
    return isinstance(error, SandboxError | ContentError)


async def _aside(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Do work that may block forever, such as reading a pipe, in a thread that nobody waits for at the end.

    Args:
        work: the work.
        undo: called with the result if nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            if error is None and undo is not None:
                undo(result)  # type: ignore[arg-type] # it is one
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # it is one

    def run() -> None:
        try:
            result, error = work(), None
        except BaseException as raised:  # noqa: BLE001 - carried to whoever waits
            result, error = None, raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True, name="rlm-rows").start()
    return await future
