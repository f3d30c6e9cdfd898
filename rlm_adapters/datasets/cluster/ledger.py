"""One budget for rows that are asked in many processes: an actor keeps it, and each call is reserved there."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from rlm_adapters.cluster.library import Library, LostError
from rlm_adapters.cluster.versions import check_version
from rlm_adapters.errors import BudgetExceededError, SandboxError
from rlm_adapters.models.budget import CallKind, Reservation
from rlm_adapters.models.job import JobLedger
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable, load_prices
from rlm_adapters.models.usage import Usage

_Call = tuple[str, CallKind, int, int | None]
"""Model, kind, input tokens, output tokens: calls of which these are equal may use each other's places."""


_LOST: Final = (
    "the actor that keeps the budget of the job was lost, with its node or its process: start again, and rows whose "
    "answers are written are not asked again"
)


class LedgerLostError(SandboxError):
    """The actor that keeps the budget of a job is gone, its node perhaps with it."""

    def __init__(self, message: str = _LOST) -> None:
        super().__init__(message)


def ask_ledger(library: Library, host: Any, method: str, *args: object) -> Future[Any]:
    """Call a method of the actor that keeps the budget; `LedgerLostError` if it is gone."""
    future: Future[Any] = Future()

    def settle(done: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if (error := done.exception()) is None:
            future.set_result(done.result())
        else:
            future.set_exception(LedgerLostError() if isinstance(error, LostError) else error)

    library.ask(host, method, *args).add_done_callback(settle)
    return future


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the job stands.

    Attributes:
        exhausted: name of a limit that allows no further call; None: there is none.
        room_ahead: calls that may be made ahead; None: no bound.
    """

    exhausted: str | None
    room_ahead: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A place for a call.

    Attributes:
        number: of the reservation.
        output_tokens: that the call may produce; None: nothing limits it.
        cost: dollars that are kept for it.
        standing: of the job.
    """

    number: int
    output_tokens: int | None
    cost: float
    standing: Standing


class LedgerHost:
    """The actor that keeps the budget of a job, and counts what each of its rows has used.

    Args:
        version: of the caller's package.
        budget: of the whole job.
        prices: of the models.
        used: in earlier starts.
    """

    def __init__(self, version: str, budget: Limits, prices: PriceTable, used: Usage) -> None:
        check_version(version)
        load_prices()
        self._prices = prices
        self._ledger = JobLedger(budget, prices)
        self._ledger.book(used)
        self._rows: dict[str, JobLedger] = {}
        self._open: defaultdict[str, dict[int, Reservation]] = defaultdict(dict)
        self._numbers = itertools.count()

    async def reserve(
        self, row: str, model: str, kind: CallKind, input_tokens: int, output_tokens: int | None
    ) -> Granted:
        """Reserve a call of a row; answers when it fits beside those in flight.

        Raises:
            BudgetExceededError: it does not fit at all.
            SandboxError: the row was finished meanwhile.
        """
        ledger = self._of(row)
        while True:
            place = ledger.try_reserve(model, kind, input_tokens, output_tokens)
            if not isinstance(place, Future):
                break
            await asyncio.wrap_future(place)
            if self._rows.get(row) is not ledger:
                raise SandboxError("the row for which a call was to be reserved is finished")
        number = next(self._numbers)
        self._open[row][number] = place
        return Granted(number=number, output_tokens=place.output_tokens, cost=place.cost, standing=self._standing())

    async def settle(
        self, row: str, number: int, input_tokens: int, output_tokens: int, details: Mapping[str, int] | None
    ) -> None:
        """Book what a call has taken."""
        if (place := self._taken(row, number)) is not None:
            self._of(row).settle(place, input_tokens, output_tokens, details)

    async def release(self, row: str, number: int) -> None:
        """A call was not made."""
        if (place := self._taken(row, number)) is not None:
            self._of(row).release(place)

    async def fail(self, row: str, number: int) -> None:
        """A call has failed for good."""
        if (place := self._taken(row, number)) is not None:
            self._of(row).fail(place)

    async def finish(self, row: str) -> Usage:
        """No more calls of a row come: what is open is given back.

        Returns:
            What it has used, also where the process that asked it is gone.
        """
        ledger = self._rows.pop(row, None)
        if ledger is None:
            return {}
        for place in self._open.pop(row, {}).values():
            ledger.release(place)
        return ledger.used

    async def used(self) -> Usage:
        """What the job has used so far."""
        return self._ledger.used

    def _taken(self, row: str, number: int) -> Reservation | None:
        """A reservation that ends; None: its row has."""
        return self._open[row].pop(number, None) if row in self._open else None

    def _of(self, row: str) -> JobLedger:
        if row not in self._rows:
            self._rows[row] = JobLedger(Limits(max_calls=None), self._prices, around=self._ledger)
        return self._rows[row]

    def _standing(self) -> Standing:
        return Standing(exhausted=self._ledger.exhausted(), room_ahead=self._ledger.room_ahead())


class FarLedger(JobLedger):
    """The budget of a job whose ledger is an actor, as one of its rows sees it.

    Each call is reserved there first, which takes a millisecond: whoever asks for a place gets a future to wait for.

    Args:
        library: Ray.
        host: the actor.
        row: name of the row there.
        prices: of the models.
    """

    def __init__(self, library: Library, host: Any, row: str, prices: PriceTable) -> None:
        super().__init__(Limits(max_calls=None), prices)
        self._library = library
        self._host = host
        self._row = row
        self._granted: defaultdict[_Call, list[Granted]] = defaultdict(list)
        self._numbers: dict[Reservation, int] = {}
        self._known: Standing = Standing(exhausted=None, room_ahead=None)
        self._guard = threading.Lock()
        self._sent: list[Future[Any]] = []

    async def all_told(self) -> None:
        """Wait until the actor knows of all calls that have ended: Ray may change the order of what it is told."""
        sent, self._sent = self._sent, []
        await asyncio.gather(*map(asyncio.wrap_future, sent), return_exceptions=True)

    def try_reserve(
        self, model: str, kind: CallKind, input_tokens: int, output_tokens: int | None = None
    ) -> Reservation | Future[None]:
        """A place that the actor has granted; else a future that ends when it has, or refuses."""
        key = (model, kind, input_tokens, output_tokens)
        with self._guard:
            granted = self._granted[key].pop() if self._granted[key] else None
        if granted is None:
            return self._asked(key)
        place = Reservation(model, kind, input_tokens, granted.output_tokens, granted.cost)
        with self._guard:
            self._numbers[place] = granted.number
        return place

    def settle(
        self, reservation: Reservation, input_tokens: int, output_tokens: int, details: Mapping[str, int] | None = None
    ) -> Usage:
        """Book what a call has taken, here and there."""
        self._tell("settle", reservation, input_tokens, output_tokens, None if details is None else dict(details))
        return super().settle(reservation, input_tokens, output_tokens, details)

    def release(self, reservation: Reservation) -> None:
        """Give a place back, here and there."""
        self._tell("release", reservation)
        super().release(reservation)

    def fail(self, reservation: Reservation) -> Usage:
        """Book a call that has failed, here and there."""
        self._tell("fail", reservation)
        return super().fail(reservation)

    def exhausted(self) -> str | None:
        """As the actor said with the last place that it granted."""
        return self._known.exhausted

    def room_ahead(self) -> int | None:
        """As the actor said with the last place that it granted."""
        return self._known.room_ahead

    def _asked(self, key: _Call) -> Future[None]:
        future: Future[None] = Future()

        def answered(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                granted: Granted = done.result()
                self._known = granted.standing
                with self._guard:
                    self._granted[key].append(granted)
            elif isinstance(error, BudgetExceededError):
                self.refusal = self.refusal or error
            if future.set_running_or_notify_cancel():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        ask_ledger(self._library, self._host, "reserve", self._row, *key).add_done_callback(answered)
        return future

    def _tell(self, what: str, reservation: Reservation, *args: object) -> None:
        with self._guard:
            number = self._numbers.pop(reservation, None)
        if number is not None:
            self._sent.append(self._library.ask(self._host, what, self._row, number, *args))
