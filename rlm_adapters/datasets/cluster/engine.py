"""`RayEngine`: rows of `map_rows` and ``rlm map`` over the nodes of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from rlm_adapters.cluster.library import Library, LostError
from rlm_adapters.cluster.pool import MOST_LOSSES, Placement, Pool, Seat
from rlm_adapters.cluster.settings import actor_options, check_address, check_counts, check_seconds
from rlm_adapters.cluster.versions import version_here
from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.asking import StoppedError, stopped, told
from rlm_adapters.datasets.cluster.host import WAIT_SECONDS, Make, RowHost, RowSettings
from rlm_adapters.datasets.cluster.ledger import LedgerHost, LedgerLostError, ask_ledger
from rlm_adapters.datasets.rows import Row
from rlm_adapters.effects import adrive
from rlm_adapters.errors import InputError, SandboxError
from rlm_adapters.models.job import JobLedger
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.usage import Usage, add_usage, empty_usage

_LAST_SECONDS: Final = 5.0
"""For which a job that is stopped waits for what its rows have used."""


class RayEngine:
    """Asks rows on the nodes of a Ray cluster; give it to `map_rows` and `amap_rows` in place of a graph.

    Each actor makes what answers for itself, with a sandbox of its own on its node. The file of answers, its resume and
    the budget are the caller's: they are as without a cluster.

    Args:
        make: a function that gives a graph of `create_rlm_graph`, a `ChatRLM` or an `RLM`, or an asynchronous context
            manager of one. It is called here and on each node, and travels as Ray sends functions.
        address: as of `RaySandbox`.
        actors: how many; default: as many as there are nodes.
        num_cpus: that each actor reserves.
        memory: bytes that each actor reserves.
        resources: of the cluster's own kinds, by name.
        scheduling_strategy: as Ray has it; ``"SPREAD"``: over all nodes.
        runtime_env: of the actors, as Ray has it; keys of models go there as ``env_vars``.
        connect_seconds: in which the cluster must answer.
        start_seconds: in which a first actor must come to life.

    Raises:
        InputError: an argument makes no sense.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        make: Make,
        *,
        address: str | None = None,
        actors: int | None = None,
        num_cpus: float = 1.0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        scheduling_strategy: Any = "SPREAD",
        runtime_env: Mapping[str, Any] | None = None,
        connect_seconds: float = 30.0,
        start_seconds: float = 120.0,
    ) -> None:
        if not callable(make):
            raise InputError(f"make={make!r:.80}: give a function that makes a graph, a ChatRLM or an RLM")
        check_address(address)
        check_counts(actors=actors)
        check_seconds(connect_seconds=connect_seconds, start_seconds=start_seconds)
        self.library = Library("RayEngine")
        self.make = make
        self.address = address
        self.connect_seconds = connect_seconds
        self.actors = actors
        self.start_seconds = start_seconds
        self.options = actor_options(num_cpus, memory, resources, scheduling_strategy, runtime_env)


class RayAsker:
    """Asks rows on a cluster; see `rlm_adapters.datasets.asking.RowAsker`.

    Args:
        given: where and how.
        settings: of the rows.
        ledger: of the job, in which earlier starts are booked when this is entered.
        prices: of the models.
        concurrency: rows at once.
    """

    _pool: Pool

    def __init__(
        self,
        given: RayEngine,
        settings: RowSettings,
        ledger: JobLedger,
        prices: PriceTable,
        concurrency: int,
    ) -> None:
        self._given = given
        self._library = given.library
        self._settings = settings
        self._ledger = ledger
        self._prices = prices
        self._concurrency = concurrency
        self._host: Any = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await asyncio.to_thread(self._pool.close)
        else:  # after a cancellation nothing can be waited for
            self._pool.close(0)
        self._library.kill(self._host)

    async def ask(self, row: Row) -> tuple[Answer, Exception | None]:
        """What becomes of a row; one whose node is lost is asked again on another.

        Raises:
            StoppedError: in place of a cancellation, when the row had cost something.
            SandboxError: the cluster cannot be used any more.
        """
        plain = Row(row.id, dict(row.values), row.place)
        spent = empty_usage()
        began = time.monotonic()
        for _ in range(MOST_LOSSES):
            seat = await adrive(self._pool.take())
            try:
                answer, failure = await asyncio.wrap_future(self._pool.ask(seat, "ask", plain))
            except (LostError, LedgerLostError):  # a node that dies may miss the ledger: `_finished` asks for itself
                self._pool.lost(seat.actor)
                spent = add_usage(spent, await self._finished(seat))
                continue
            except asyncio.CancelledError:
                spent = add_usage(spent, await self._used_until_now(seat))
                if spent["input_tokens"]:
                    self._ledger.book(spent)
                    raise StoppedError(stopped(row, spent, time.monotonic() - began)) from None
                raise
            finally:
                self._pool.leave(seat)
            usage = add_usage(spent, answer.usage)
            self._ledger.book(usage)
            return replace(answer, usage=usage), failure
        lost = SandboxError(f"{MOST_LOSSES} nodes were lost one after the other while they asked this row")
        self._ledger.book(spent)
        seconds = time.monotonic() - began
        error = told("sandbox", str(lost))
        return Answer(id=row.id, error=error, finish_reason="error", usage=spent, seconds=seconds), lost

    # -- parts

    def _begin(self) -> None:
        """Connect, and have the actors made."""
        given = self._given
        self._library.connect(given.address, given.connect_seconds)
        actors = given.actors or max(1, len(self._library.nodes()))
        options = {
            **self._library.beside_this_process(),
            **{name: value for name, value in given.options.items() if name == "runtime_env"},
        }
        used = self._ledger.used
        self._host = self._library.actor(LedgerHost, options, version_here(), self._ledger.limits, self._prices, used)
        placement = Placement(
            actors=actors,
            sessions_per_actor=math.ceil(self._concurrency / actors),
            options=given.options,
            start_seconds=given.start_seconds,
            wait_seconds=WAIT_SECONDS,
        )
        self._pool = Pool(self._library, placement, RowHost, self._host, self._settings, actors)

    async def _finished(self, seat: Seat) -> Usage:
        """What the row at a place has used; nothing more comes of it.

        Raises:
            LedgerLostError: nobody keeps the budget any more.
        """
        usage: Usage = await asyncio.wrap_future(ask_ledger(self._library, self._host, "finish", seat.name))
        return usage

    async def _used_until_now(self, seat: Seat) -> Usage:
        """After a cancellation: what is told within a moment."""
        with contextlib.suppress(TimeoutError, SandboxError):
            async with asyncio.timeout(_LAST_SECONDS):
                return await self._finished(seat)
        return {}
