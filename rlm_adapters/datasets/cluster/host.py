"""The actors that ask rows on a node, within the budget of the job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.orders import Hello
from rlm_adapters.cluster.versions import check_version
from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.asking import StoppedError, ask_row
from rlm_adapters.datasets.cluster.ledger import FarLedger, ask_ledger
from rlm_adapters.datasets.engines import Engine, engine_of
from rlm_adapters.datasets.rows import Row
from rlm_adapters.errors import RLMError
from rlm_adapters.models.failures import classify
from rlm_adapters.models.job import Job
from rlm_adapters.models.limiter import Limiter

WAIT_SECONDS: Final = 30 * 86_400.0
"""For which a row waits for a place: the rows before it may take as long as their limits allow."""

Make = Callable[[], Any]
"""Gives a graph of `create_rlm_graph`, a `ChatRLM` or an `RLM`; or an asynchronous context manager of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSettings:
    """What each process asks its rows with.

    Attributes:
        make: makes what answers.
        question: of each row; None for an `RLM`.
        fields: columns of the context.
    """

    make: Make
    question: str | None
    fields: Sequence[str] | str | None

    async def open(self, stack: AsyncExitStack) -> Engine:
        """What answers rows, here; ``stack`` ends it.

        Raises:
            InputError: what was made cannot answer rows.
        """
        made = self.make()
        if hasattr(made, "__aenter__"):
            made = await stack.enter_async_context(made)
        elif callable(close := getattr(made, "close", None)):
            stack.callback(close)
        return engine_of(made, self.question, (self.fields,) if isinstance(self.fields, str) else self.fields)


class Host:
    """Asks rows. Ray runs the methods of actors on one event loop.

    Args:
        version: of the caller's package.
        ledger: the actor that keeps the budget.
    """

    def __init__(self, version: str, ledger: Any) -> None:
        check_version(version)
        self._library = Library("an actor that asks rows")
        self._ledger = ledger
        self._stack = AsyncExitStack()
        self._rows: dict[str, asyncio.Task[tuple[Answer, Exception | None]]] = {}

    async def hello(self) -> Hello:
        """Answers when it is ready."""
        return Hello(node=self._library.node())

    async def close(self, name: str) -> None:
        """Nobody waits for a row any more."""
        if (task := self._rows.get(name)) is not None:
            task.cancel()

    async def end(self) -> None:
        """Stop all rows, and close what answers them: nothing is left on the node."""
        for task in self._rows.values():
            task.cancel()
        await self._stack.aclose()

    async def _asked(self, name: str, engine: Engine, row: Row, limiter: Limiter) -> tuple[Answer, Exception | None]:
        """What becomes of a row, ``name`` at the ledger."""
        ledger = FarLedger(self._library, self._ledger, name, engine.prices)
        task = self._rows[name] = asyncio.ensure_future(ask_row(engine, row, Job(ledger, limiter)))
        try:
            done = await task
        except StoppedError as stopped:
            done = stopped.answer, None
        finally:
            self._rows.pop(name, None)
        await ledger.all_told()
        return done

    async def _tell(self, method: str, *args: object) -> Any:
        """Have the ledger do something."""
        return await asyncio.wrap_future(ask_ledger(self._library, self._ledger, method, *args))


class RowHost(Host):
    """Asks rows of a data set, with an engine of its own.

    Args:
        version: of the caller's package.
        ledger: the actor that keeps the budget.
        settings: of the rows.
        actors: that share what the engine's limits allow of calls at once and a minute.
    """

    _engine: Engine
    _limiter: Limiter

    def __init__(self, version: str, ledger: Any, settings: RowSettings, actors: int) -> None:
        super().__init__(version, ledger)
        self._settings = settings
        self._actors = actors

    async def hello(self) -> Hello:
        """Answers when the engine is there."""
        self._engine = await self._settings.open(self._stack)
        self._limiter = Limiter.of(self._engine.limits, share=self._actors)
        return await super().hello()

    async def ask(self, name: str, row: Row) -> tuple[Answer, RLMError | None]:
        """Ask a row.

        Args:
            name: of the place, and of the row at the ledger.
            row: to be asked.

        Returns:
            What becomes of it, and what its run raised.
        """
        answer, failure = await self._asked(name, self._engine, row, self._limiter)
        await self._tell("finish", name)
        return answer, failure if failure is None or isinstance(failure, RLMError) else classify(failure)
