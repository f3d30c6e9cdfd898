"""Ask one row, and make its answer in any case."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import TracebackType
from typing import Final, Protocol, Self

from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.engines import ANSWERED, Engine
from rlm_adapters.datasets.rows import Row
from rlm_adapters.errors import BudgetExceededError, ContentError, InputError, ModelCallError, RLMError, SandboxError
from rlm_adapters.models.failures import classify
from rlm_adapters.models.job import Job, JobLedger, part_of
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.usage import Usage

JOB_BUDGET: Final = "job_budget"
INTERRUPTED: Final = "interrupted"


class StoppedError(RLMError):
    """The job was stopped during a row that had a cost.

    Attributes:
        answer: an answer with this cost.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__("the job was stopped while this row was asked")
        self.answer = answer


class RowAsker(Protocol):
    """Asks rows, in this process or on other machines."""

    async def __aenter__(self) -> Self:
        """Get ready for rows. The usage of earlier starts is already counted."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """There are no more rows."""

    async def ask(self, row: Row) -> tuple[Answer, Exception | None]:
        """Ask a row. Returns its answer, and the exception of its run.

        Raises:
            StoppedError: instead of a cancellation, if the row had a cost.
        """
        ...


class LocalAsker:
    """Asks rows in this process.

    Args:
        engine: answers the rows. Its limits of calls at once and per minute apply to all rows together.
        ledger: of the job.
    """

    def __init__(self, engine: Engine, ledger: JobLedger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._limiter = Limiter.of(engine.limits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def ask(self, row: Row) -> tuple[Answer, Exception | None]:
        """Ask a row. Returns its answer, and the exception of its run."""
        ledger = JobLedger(Limits(max_calls=None), self._engine.prices, around=self._ledger)
        return await ask_row(self._engine, row, Job(ledger, self._limiter))


async def ask_row(engine: Engine, row: Row, job: Job) -> tuple[Answer, Exception | None]:
    """Ask a row.

    Args:
        engine: answers the row.
        row: the row.
        job: the job of this row, with its own ledger.

    Returns:
        Its answer, and the exception of its run.

    Raises:
        StoppedError: instead of a cancellation, if the row had a cost.
    """
    began = time.monotonic()
    failure: Exception | None = None
    answer = Answer(id=row.id)
    ledger = job.ledger
    try:
        with part_of(job):
            outcome = await engine.ask(row)
        answer = replace(answer, answer=outcome.answer, finish_reason=outcome.finish_reason, run_id=outcome.run_id)
        if outcome.finish_reason == "direct" and not str(outcome.answer).strip():
            answer = replace(answer, answer=None, error=told("empty", "the reply is empty: the model may have refused"))
        elif outcome.finish_reason not in ANSWERED:
            said = outcome.error or f"the run ended with finish_reason={outcome.finish_reason!r}"
            answer = replace(answer, error=told(outcome.finish_reason, said))
    except asyncio.CancelledError:
        if ledger.used["input_tokens"]:
            raise StoppedError(stopped(row, ledger.used, time.monotonic() - began)) from None
        raise
    except Exception as error:  # noqa: BLE001 - of one row: the others go on
        failure = error
        answer = replace(answer, error=told(*_reason(error)), finish_reason="error")
    if answer.error is not None and ledger.refusal is not None:
        answer = replace(answer, error=told(JOB_BUDGET, str(ledger.refusal)))
        failure = None
    run_id = job.runs[0] if job.runs else answer.run_id
    return replace(answer, usage=ledger.used, seconds=time.monotonic() - began, run_id=run_id), failure


def stopped(row: Row, usage: Usage, seconds: float) -> Answer:
    """The answer of a row that was stopped in the middle."""
    error = told(INTERRUPTED, "the job was stopped while this row was asked")
    return Answer(id=row.id, error=error, usage=usage, seconds=seconds)


def told(kind: str, message: str) -> dict[str, str]:
    """The ``error`` of an answer."""
    return {"kind": kind, "message": message}


def _reason(error: Exception) -> tuple[str, str]:
    """Kind and message of the exception of a row's run."""
    if isinstance(error, BudgetExceededError):
        return "budget", str(error)
    if isinstance(error, InputError):
        return "input", str(error)
    if isinstance(error, RLMError) and not isinstance(error, ModelCallError):
        kind = {SandboxError: "sandbox", ContentError: "content"}
        return next((name for known, name in kind.items() if isinstance(error, known)), "other"), str(error)
    known = classify(error)
    return known.kind, str(known)
