"""`RayJob`: what all processes of a job on a cluster share, kept by one actor: its budget, and its answers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.settings import check_address, check_seconds
from rlm_adapters.cluster.versions import version_here
from rlm_adapters.datasets.answers import Answer, Answers, open_answers
from rlm_adapters.datasets.cluster.ledger import FarLedger, LedgerHost, ask_ledger
from rlm_adapters.datasets.result import MapResult
from rlm_adapters.datasets.start import OPEN
from rlm_adapters.errors import InputError
from rlm_adapters.models.job import JobLedger
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.usage import empty_usage, subtract_usage
from rlm_adapters.values.lines import BusyFileError

_LOCK_SECONDS: Final = 20.0
"""For which the actor of a start that was killed may still hold the file."""


class JobHost(LedgerHost):
    """The actor of a `RayJob`.

    Args:
        version: of the caller's package.
        budget: of the whole job.
        output: path of the file of answers; None: they end with the job.
        retry_failed: rows that failed in an earlier start are asked again.
    """

    def __init__(self, version: str, budget: Limits, output: str | None, *, retry_failed: bool) -> None:
        super().__init__(version, budget, PriceTable(), empty_usage())
        self._output = output
        self._retry_failed = retry_failed
        self._answers: Answers | None = None
        self._kept: dict[str | int, Answer] = {}
        self._askers: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._asked: Mapping[str, Any] | None = None
        self._failures: Counter[str] = Counter()
        self._done = MapResult()
        self._before = empty_usage()
        self._began = time.monotonic()

    async def begin(self, asked: Mapping[str, Any], prices: PriceTable, actor: str, prefix: str) -> None:
        """Somebody is going to ask rows.

        Args:
            asked: of whom, and what; the same from all of them.
            prices: of the models.
            actor: id of that actor; empty: it is none.
            prefix: of the names under which it reserves calls.

        Raises:
            InputError: the file of answers was begun with something else, or cannot be written.
        """
        async with self._lock:
            if actor:
                before, self._askers[actor] = self._askers.get(actor), prefix
                if before is not None:  # it was lost with its node, and made again
                    for name in [name for name in self._rows if name.startswith(before)]:
                        await self.finish(name)
            if self._asked is None:
                self._prices = prices
                self._ledger = JobLedger(self._ledger.limits, prices)
                if self._output is not None:
                    self._answers = await self._opened(self._output, asked)
                self._asked = asked
            elif self._asked != asked:
                raise InputError(f"the job asks {self._asked!r:.300}, and now {asked!r:.300}: make another RayJob")

    async def kept(self, id: str | int) -> Answer | None:  # noqa: A002 - the row's name for it
        """What became of a row that is not to be asked again; None: it is."""
        if (answer := self._kept.get(id)) is not None:
            self._done = replace(self._done, skipped=self._done.skipped + 1)
        return answer

    async def keep(self, name: str, answer: Answer) -> None:
        """A row is finished.

        Raises:
            OutputError: the answer cannot be written.
        """
        await self.finish(name)
        if answer.error is None or answer.error["kind"] not in OPEN:
            self._kept[answer.id] = answer
        if answer.error is None:
            self._done = replace(self._done, answered=self._done.answered + 1)
        else:
            self._failures[answer.error["kind"]] += 1
            self._done = replace(self._done, failed=self._done.failed + 1)
        if self._answers is not None:
            async with self._lock:
                await asyncio.to_thread(self._answers.write, answer)

    async def progress(self) -> MapResult:
        """What was done so far."""
        used = await self.used()
        return replace(
            self._done,
            failures=dict(self._failures),
            usage=subtract_usage(used, self._before),
            job_usage=used,
            seconds=time.monotonic() - self._began,
            stopped=None if self._ledger.refusal is None else str(self._ledger.refusal),
        )

    async def end(self) -> None:
        """Bring all answers to the disk."""
        async with self._lock:
            if self._answers is not None:
                await asyncio.to_thread(self._answers.close)
                self._answers = None

    async def _opened(self, output: str, asked: Mapping[str, Any]) -> Answers:
        began = time.monotonic()
        while True:
            try:
                answers = await asyncio.to_thread(open_answers, output, asked)
            except BusyFileError:
                if time.monotonic() - began > _LOCK_SECONDS:
                    raise
                await asyncio.sleep(0.5)
            else:
                break
        for answer in await asyncio.to_thread(lambda: list(answers.read())):
            self._ledger.book(answer.usage)
            if answer.error is None or not (self._retry_failed or answer.error["kind"] in OPEN):
                self._kept[answer.id] = answer
            else:
                self._kept.pop(answer.id, None)
        self._before = self._ledger.used
        return answers


class RayJob:
    """What all actors of a job share: one budget, and the answers that are there already.

    One actor keeps both, on the node of this process. It ends with this process, or with `close`. Its memory holds the
    answers, so that a row whose batch was lost with a node is not asked again.

    Args:
        answers: file of the answers, on the node of this process (with ``ray://``: on the head node). A job that is
            started again with the same file goes on: rows that are answered are not asked again, and what earlier
            starts used counts. It is written as `map_rows` writes it, but rows are named by what they say, not by
            where they stand.
        retry_failed: ask rows again that failed in an earlier start.
        max_cost: US dollars of the whole job.
        max_calls: model calls of every kind.
        max_tokens: input and output tokens.
        address: as of `RaySandbox`.
        connect_seconds: in which the cluster must answer.

    Raises:
        InputError: an argument makes no sense.
        MissingExtraError: Ray is not installed.
        ClusterError: the cluster cannot be reached.
    """

    def __init__(
        self,
        answers: str | Path | None = None,
        *,
        retry_failed: bool = False,
        max_cost: float | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        address: str | None = None,
        connect_seconds: float = 30.0,
    ) -> None:
        check_address(address)
        check_seconds(connect_seconds=connect_seconds)
        if answers is not None and (not isinstance(answers, str | Path) or str(answers) in ("", "-")):
            raise InputError(f"answers={answers!r}: give the path of a file")
        self.limits = Limits(max_cost=max_cost, max_calls=max_calls, max_tokens=max_tokens)
        self._library = Library("RayJob")
        self._library.connect(address, connect_seconds)
        self.host: Any = self._library.actor(
            JobHost,
            self._library.beside_this_process(),
            version_here(),
            self.limits,
            None if answers is None else str(Path(answers).absolute()),
            retry_failed=retry_failed,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def progress(self) -> MapResult:
        """What was done so far; ``skipped`` counts rows whose answers were there. Blocks.

        Raises:
            SandboxError: the actor of the job is lost.
        """
        done: MapResult = self.ask("progress").result()
        return done

    def close(self) -> None:
        """Bring all answers to the disk, and end the actor. Blocks.

        Raises:
            SandboxError: the actor of the job is lost; answers of the last second may be.
            OutputError: the file could not be written.
        """
        try:
            self.ask("end").result()
        finally:
            self._library.kill(self.host)

    # -- for those that ask

    def ask(self, method: str, *args: object) -> Future[Any]:
        """Call a method of the actor."""
        return ask_ledger(self._library, self.host, method, *args)

    def ledger(self, name: str, prices: PriceTable) -> FarLedger:
        """The budget, as one row sees it."""
        return FarLedger(self._library, self.host, name, prices)

    def me(self) -> str:
        """Id of the actor that this process is; empty: it is none."""
        return self._library.me()

    def __getstate__(self) -> dict[str, Any]:
        return {"limits": self.limits, "host": self.host}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.limits, self.host = state["limits"], state["host"]
        self._library = Library("RayJob")
