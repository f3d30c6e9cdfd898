"""`Ledger`: keeps a whole call tree within the limits of its run.

The outermost run has one `Ledger`, and child RLMs at every depth share it. It reserves the largest possible use
*before* a call and replaces it by the real use after the call. So calls in parallel cannot exceed a limit together.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from rlm_adapters.errors import BudgetExceededError
from rlm_adapters.models.limits import Limits, in_words
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.usage import Usage, add_usage, empty_usage, known_cost

CallKind: TypeAlias = Literal["root", "sub", "extract"]

_MIN_OUTPUT_TOKENS = 16  # with less room for the answer, a call is not made
_LAST_OUTPUT_TOKENS = 1_000  # kept for the last answer when a limit ends the run
_LAST_SHARE = 0.25  # largest share of a token or cost limit that is kept for it
_LAST_SECONDS_SHARE, _LAST_SECONDS = 0.1, 30.0  # of a time limit: a tenth, at most half a minute


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left of each limit; None if there is no limit."""

    calls: int | None
    tokens: int | None
    cost: float | None
    seconds: float | None

    def describe(self, *, sub_calls: bool = True) -> str:
        """The balance in a few words for the root LM; empty if nothing is limited."""
        return in_words(
            self.calls if sub_calls else None,
            self.tokens,
            None if self.cost is None else f"{self.cost:.4f}",
            None if self.seconds is None else f"{self.seconds:.0f}",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A reservation for one call.

    Attributes:
        model: name of the model.
        kind: kind of the call.
        input_tokens: estimated upper bound.
        output_tokens: most output tokens of the call; None if nothing limits them.
        cost: dollars for these tokens.
    """

    model: str
    kind: CallKind
    input_tokens: int
    output_tokens: int | None
    cost: float

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + (self.output_tokens or 0)


class _InFlight:
    """Open reservations, and their sums."""

    def __init__(self) -> None:
        self._places: set[Reservation] = set()
        self.tokens = 0
        self.cost = 0.0
        self.kinds: Counter[CallKind] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: Reservation) -> None:
        self._places.add(place)
        self._count(place, 1)

    def discard(self, place: Reservation) -> None:
        if place in self._places:
            self._places.discard(place)
            self._count(place, -1)
        if not self._places:
            self.cost = 0.0  # remove rounding errors

    def _count(self, place: Reservation, sign: int) -> None:
        self.tokens += sign * place.tokens
        self.cost += sign * place.cost
        self.kinds[place.kind] += sign


_NOTHING: Final = _InFlight()


class Ledger:
    """Keeps one call tree within its limits. Thread-safe.

    Args:
        limits: of the run.
        prices: prices of the models.
        clock: seconds, monotonic.
        around: ledger of the job of this run. Each call is reserved there, too.
    """

    whole = "run"
    """What has the limits, for messages."""

    def __init__(
        self,
        limits: Limits,
        prices: PriceTable | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        around: Ledger | None = None,
    ) -> None:
        self.limits = limits
        self._around = around
        self._outer: dict[Reservation, Reservation] = {}
        self._prices = prices or PriceTable()
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._used = empty_usage()
        self._reserved = _InFlight()
        self._waiting: list[Future[None]] = []
        self._last_tokens = 0
        self._last_cost = 0.0

    def keep_for_last(self, model: str, input_tokens: int) -> None:
        """Keep enough for one last question to the root LM. Its prompt grows with the run."""
        limits = self.limits
        with self._lock:
            if limits.max_tokens is not None:
                self._last_tokens = min(input_tokens + _LAST_OUTPUT_TOKENS, int(limits.max_tokens * _LAST_SHARE))
            if limits.max_cost is not None:
                cost = self._prices.require(model).cost(input_tokens, _LAST_OUTPUT_TOKENS)
                self._last_cost = min(cost, limits.max_cost * _LAST_SHARE)

    # -- before and after a call

    def try_reserve(
        self, model: str, kind: CallKind, input_tokens: int, output_tokens: int | None = None
    ) -> Reservation | Future[None]:
        """Reserve the largest possible use of a call.

        Args:
            model: name of the model.
            kind: ``root`` calls do not count as sub-calls.
            input_tokens: estimated upper bound of the prompt.
            output_tokens: most output tokens of the call; default ``limits.max_output_tokens``.

        Returns:
            The reservation. If it does not fit while other calls are in flight, but may fit later: a future to wait
            for before trying again.

        Raises:
            BudgetExceededError: it does not fit at all.
        """
        place = self._reserve(model, kind, input_tokens, output_tokens)
        if self._around is None or isinstance(place, Future):
            return place
        try:
            outer = self._around.try_reserve(model, kind, input_tokens, place.output_tokens)
        except BudgetExceededError:
            self.release(place)
            raise
        if isinstance(outer, Future):
            self.release(place)
            return outer
        with self._lock:
            self._reserved.discard(place)
            place = replace(place, output_tokens=outer.output_tokens)
            self._reserved.add(place)
            self._outer[place] = outer
        return place

    def _reserve(
        self, model: str, kind: CallKind, input_tokens: int, output_tokens: int | None
    ) -> Reservation | Future[None]:
        """`try_reserve` in this ledger only."""
        with self._lock:
            self._check_time(kind)
            limits = self.limits
            if self._counts(kind) and limits.max_calls is not None and self._left_calls() < 1:
                raise self._no_calls()
            wanted = min(output_tokens or limits.max_output_tokens, limits.max_output_tokens)
            room = self._output_room(model, kind, input_tokens, beside=self._reserved)
            alone = self._output_room(model, kind, input_tokens, beside=_NOTHING)
            if room is not None and alone is not None:
                if alone < min(wanted, _MIN_OUTPUT_TOKENS):
                    raise self._too_expensive(kind, input_tokens)
                if room < min(wanted, alone):
                    # Wait for the calls in flight, which usually use less than reserved, instead of cutting the reply.
                    future: Future[None] = Future()
                    self._waiting.append(future)
                    return future
            capped = None if room is None else min(wanted, room)
            price = self._prices.require(model) if limits.max_cost is not None else None
            cost = price.cost(input_tokens, capped or 0) if price else 0.0
            reservation = Reservation(model, kind, input_tokens, capped, cost)
            self._reserved.add(reservation)
            return reservation

    def settle(
        self, reservation: Reservation, input_tokens: int, output_tokens: int, details: Mapping[str, int] | None = None
    ) -> Usage:
        """Replace a reservation by the real use of the call.

        Args:
            reservation: of the call.
            input_tokens: of the call.
            output_tokens: of the call.
            details: kinds of these tokens; see `rlm_adapters.models.usage.DETAILS`.

        Returns:
            The usage of this call, for the state.
        """
        cost = self._prices.cost(reservation.model, input_tokens, output_tokens)
        usage: Usage = {
            **({"extract_calls": 1} if reservation.kind == "extract" else {}),
            "calls": int(reservation.kind == "sub"),
            "root_calls": int(reservation.kind == "root"),
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            **(details or {}),
            "cost": cost,
            "by_model": {
                reservation.model: {
                    "calls": 1,
                    "failed_calls": 0,
                    "input_tokens": input_tokens,
                    "output_tokens": output_tokens,
                    **(details or {}),
                    "cost": cost,
                }
            },
        }
        self._give_back(reservation, usage)
        if (outer := self._outer.pop(reservation, None)) is not None and self._around is not None:
            self._around.settle(outer, input_tokens, output_tokens, details)
        return usage

    def release(self, reservation: Reservation) -> None:
        """Release an unused reservation (the call was not sent, or was cancelled)."""
        self._give_back(reservation, None)
        if (outer := self._outer.pop(reservation, None)) is not None and self._around is not None:
            self._around.release(outer)

    def fail(self, reservation: Reservation) -> Usage:
        """Count a call that failed after all retries. Its cost is not known, so it is not counted.

        Returns:
            The usage of this call, for the state.
        """
        usage: Usage = {"failed_calls": 1, "by_model": {reservation.model: {"failed_calls": 1, "cost": 0}}}
        self._give_back(reservation, usage)
        if (outer := self._outer.pop(reservation, None)) is not None and self._around is not None:
            self._around.fail(outer)
        return usage

    def book(self, usage: Usage) -> None:
        """Add other usage: restored from a checkpoint, or counts of run-ahead."""
        with self._lock:
            self._used = add_usage(self._used, usage)

    def restore_time(self, seconds: float) -> None:
        """Add the seconds that passed before a resume."""
        self._start -= seconds

    # -- reading

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return self._clock() - self._start

    @property
    def used(self) -> Usage:
        """The usage of the whole tree so far."""
        with self._lock:
            return add_usage(self._used, empty_usage())

    def balance(self) -> Balance:
        """What is left, without the calls in flight."""
        with self._lock:
            limits = self.limits
            return Balance(
                None if limits.max_calls is None else max(0, self._left_calls()),
                None if limits.max_tokens is None else max(0, self._left_tokens(self._reserved)),
                None if limits.max_cost is None else max(0.0, self._left_cost(self._reserved)),
                None if limits.max_seconds is None else max(0.0, limits.max_seconds - self.seconds),
            )

    def room_ahead(self) -> int | None:
        """Number of calls that can be made ahead; None: no limit.

        It is half of the calls that are left, and zero in the last quarter of the other limits, so that unused calls do
        not take what necessary calls need.
        """
        balance, limits = self.balance(), self.limits
        for left, limit in (
            (balance.tokens, limits.max_tokens),
            (balance.cost, limits.max_cost),
            (balance.seconds, limits.max_seconds),
        ):
            if left is not None and limit is not None and left < limit / 4:
                return 0
        around = None if self._around is None else self._around.room_ahead()
        return min((room for room in (self._half(balance), around) if room is not None), default=None)

    @staticmethod
    def _half(balance: Balance) -> int | None:
        return None if balance.calls is None else balance.calls // 2

    def seconds_left(self, kind: CallKind = "root") -> float | None:
        """Seconds until the time limit for this kind of call; None if there is no limit."""
        limit = self.limits.max_seconds
        if limit is None:
            return None
        kept = 0.0 if kind == "extract" else min(limit * _LAST_SECONDS_SHARE, _LAST_SECONDS)
        return limit - kept - self.seconds

    def exhausted(self) -> str | None:
        """Name of a limit that allows no further turn of the root LM; None if there is none."""
        left = self.seconds_left()
        with self._lock:
            if left is not None and left <= 0:
                return "max_seconds"
            if self.limits.max_tokens is not None and self._left_tokens(_NOTHING, "root") < _MIN_OUTPUT_TOKENS:
                return "max_tokens"
            if self.limits.max_cost is not None and self._left_cost(_NOTHING, "root") <= 0:
                return "max_cost"
        return None if self._around is None else self._around.exhausted()

    # -- parts, called with the lock held

    def _check_time(self, kind: CallKind) -> None:
        left = self.seconds_left(kind)
        if left is not None and left <= 0:
            raise BudgetExceededError(f"the run's {self.limits.max_seconds:g} seconds are over", limit="max_seconds")

    def _counts(self, kind: CallKind) -> bool:
        """Whether `Limits.max_calls` counts this kind of call."""
        return kind == "sub"

    def _used_calls(self) -> int:
        return int(self._used["calls"])

    def _no_calls(self) -> BudgetExceededError:
        message = f"all {self.limits.max_calls} sub-calls of this run are used"
        return BudgetExceededError(message, limit="max_calls")

    def _left_calls(self) -> int:
        in_flight = sum(number for kind, number in self._reserved.kinds.items() if self._counts(kind))
        return (self.limits.max_calls or 0) - self._used_calls() - in_flight

    def _left_tokens(self, beside: _InFlight, kind: CallKind = "extract") -> int:
        used = int(self._used["input_tokens"]) + int(self._used["output_tokens"])
        kept = 0 if kind == "extract" else self._last_tokens
        return (self.limits.max_tokens or 0) - used - kept - beside.tokens

    def _left_cost(self, beside: _InFlight, kind: CallKind = "extract") -> float:
        kept = 0.0 if kind == "extract" else self._last_cost
        return (self.limits.max_cost or 0.0) - known_cost(self._used) - kept - beside.cost

    def _output_room(self, model: str, kind: CallKind, input_tokens: int, *, beside: _InFlight) -> int | None:
        """Output tokens that fit in addition to the given reservations; None if tokens and cost are not limited."""
        rooms: list[int] = []
        if self.limits.max_tokens is not None:
            rooms.append(self._left_tokens(beside, kind) - input_tokens)
        if self.limits.max_cost is not None:
            price = self._prices.require(model)
            money = self._left_cost(beside, kind) - price.cost(input_tokens, 0)
            if price.output > 0:
                rooms.append(math.floor(money * 1e6 / price.output))
            else:
                rooms.append(self.limits.max_output_tokens if money >= 0 else -1)
        return min(rooms, default=None)

    def _too_expensive(self, kind: CallKind, input_tokens: int) -> BudgetExceededError:
        limits = self.limits
        left = max(0, self._left_tokens(_NOTHING, kind))
        if limits.max_tokens is not None and left - input_tokens < _MIN_OUTPUT_TOKENS:
            return BudgetExceededError(
                f"a call of about {input_tokens:,} tokens does not fit into the {left:,} left of "
                f"{limits.max_tokens:,}{self._of_what()}",
                limit="max_tokens",
            )
        money = max(0.0, self._left_cost(_NOTHING, kind))
        return BudgetExceededError(
            f"a call of about {input_tokens:,} tokens does not fit into the ${money:.4f} that are left"
            f"{self._of_what()}",
            limit="max_cost",
        )

    def _of_what(self) -> str:
        return "" if self.whole == "run" else f" to the {self.whole}"

    def _give_back(self, reservation: Reservation, usage: Usage | None) -> None:
        with self._lock:
            self._reserved.discard(reservation)
            if usage is not None:
                self._used = add_usage(self._used, usage)
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
