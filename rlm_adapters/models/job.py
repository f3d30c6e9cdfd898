"""A job: many runs that share one budget and one limiter, such as the rows of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from rlm_adapters.errors import BudgetExceededError
from rlm_adapters.models.budget import CallKind, Ledger, Reservation
from rlm_adapters.models.limiter import Limiter

_KINDS: Final = ("calls", "root_calls", "extract_calls")


class JobLedger(Ledger):
    """Keeps all runs of a job within its limits. Here ``Limits.max_calls`` counts calls of every kind."""

    whole = "job"
    refusal: BudgetExceededError | None = None
    """The first refusal of a call; None: no call was refused."""

    def try_reserve(
        self, model: str, kind: CallKind, input_tokens: int, output_tokens: int | None = None
    ) -> Reservation | Future[None]:
        """Like `Ledger.try_reserve`. The first refusal is kept."""
        try:
            return super().try_reserve(model, kind, input_tokens, output_tokens)
        except BudgetExceededError as error:
            self.refusal = self.refusal or error
            raise

    def exhausted(self) -> str | None:
        """Name of a limit that allows no further call; None if there is none."""
        with self._lock:
            if self.limits.max_calls is not None and self._used_calls() >= self.limits.max_calls:
                return "max_calls"
        return super().exhausted()

    def _counts(self, kind: CallKind) -> bool:  # noqa: ARG002 - all of them
        return True

    def _used_calls(self) -> int:
        return sum(int(self._used.get(kind, 0)) for kind in _KINDS)

    def _no_calls(self) -> BudgetExceededError:
        return BudgetExceededError(f"all {self.limits.max_calls} model calls of the job are used", limit="max_calls")


@dataclass(frozen=True, slots=True)
class Job:
    """Shared parts of the runs of a job."""

    ledger: JobLedger
    limiter: Limiter
    runs: list[str] = field(default_factory=list)
    """Ids of the outermost runs, in the order in which they begin."""


_job: Final[ContextVar[Job | None]] = ContextVar("rlm_job", default=None)


def current_job() -> Job | None:
    """The job of runs in this context; None if there is none."""
    return _job.get()


@contextmanager
def part_of(job: Job) -> Iterator[None]:
    """Make runs inside this block, also in copied contexts, part of the job."""
    token = _job.set(job)
    try:
        yield
    finally:
        _job.reset(token)
