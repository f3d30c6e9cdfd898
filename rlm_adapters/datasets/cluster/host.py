"""The actor that asks rows on a node: an engine of its own, within the budget of the job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.orders import Hello
from rlm_adapters.cluster.versions import check_version
from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.asking import StoppedError, ask_row
from rlm_adapters.datasets.cluster.ledger import FarLedger
from rlm_adapters.datasets.engines import Engine, engine_of
from rlm_adapters.datasets.rows import Row
from rlm_adapters.errors import RLMError
from rlm_adapters.models.failures import classify
from rlm_adapters.models.job import Job
from rlm_adapters.models.limiter import Limiter

Make = Callable[[], Any]
"""Gives a graph of `create_rlm_graph`, a `ChatRLM` or an `RLM`; or an asynchronous context manager of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSettings:
    """What each actor asks its rows with.

    Attributes:
        make: makes what answers.
        question: of each row; None for an `RLM`.
        fields: columns of the context.
    """

    make: Make
    question: str | None
    fields: tuple[str, ...] | None


async def entered(make: Make, stack: AsyncExitStack) -> Any:
    """What answers rows; ``stack`` ends it."""
    made = make()
    if hasattr(made, "__aenter__"):
        return await stack.enter_async_context(made)
    if callable(close := getattr(made, "close", None)):
        stack.callback(close)
    return made


class RowHost:
    """Asks rows. Ray runs its methods on one event loop.

    Args:
        version: of the caller's package.
        settings: of the rows.
        actors: that share what the engine's limits allow of calls at once and a minute.
        ledger: the actor that keeps the budget.
    """

    def __init__(self, version: str, settings: RowSettings, actors: int, ledger: Any) -> None:
        check_version(version)
        self._library = Library("an actor that asks rows")
        self._settings = settings
        self._actors = actors
        self._ledger = ledger
        self._stack = AsyncExitStack()
        self._rows: dict[str, asyncio.Task[tuple[Answer, Exception | None]]] = {}
        self._engine: Engine | None = None

    async def hello(self) -> Hello:
        """Answers when the engine is there."""
        settings = self._settings
        self._engine = engine_of(await entered(settings.make, self._stack), settings.question, settings.fields)
        self._limiter = Limiter.of(self._engine.limits, share=self._actors)
        return Hello(node=self._library.node())

    async def ask(self, name: str, row: Row) -> tuple[Answer, RLMError | None]:
        """Ask a row.

        Args:
            name: of the place, and of the row at the ledger.
            row: to be asked.

        Returns:
            What becomes of it, and what its run raised.
        """
        assert self._engine is not None
        job = Job(FarLedger(self._library, self._ledger, name, self._engine.prices), self._limiter)
        task = self._rows[name] = asyncio.ensure_future(ask_row(self._engine, row, job))
        try:
            answer, failure = await task
        except StoppedError as stopped:
            return stopped.answer, None
        finally:
            self._rows.pop(name, None)
        # From here, so that it comes after all that this process has told of the row's calls.
        await asyncio.wrap_future(self._library.ask(self._ledger, "finish", name))
        return answer, failure if failure is None or isinstance(failure, RLMError) else classify(failure)

    async def close(self, name: str) -> None:
        """Nobody waits for a row any more."""
        if (task := self._rows.get(name)) is not None:
            task.cancel()

    async def end(self) -> None:
        """Stop all rows, and close what answers them: nothing is left on the node."""
        for task in self._rows.values():
            task.cancel()
        await self._stack.aclose()


def as_fields(fields: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Columns of the context, as a tuple."""
    return (fields,) if isinstance(fields, str) else None if fields is None else tuple(fields)
