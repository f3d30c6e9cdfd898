"""Limits of a run and the ledger that keeps the whole call tree within them.

One `Ledger` belongs to the outermost run; child RLMs at every depth share it. It reserves the worst case *before* a
call and settles the real figures after, so calls in parallel cannot overshoot together.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.arguments import checked
from rlm_adapters.errors import BudgetExceededError, InputError
from rlm_adapters.models.prices import PriceTable

CallKind: TypeAlias = Literal["root", "sub", "extract"]
Usage: TypeAlias = dict[str, Any]
"""Plain dict, as saved in the state: ``calls`` (sub-LM calls and the turns of child RLMs), ``root_calls`` (turns of the
outermost root LM), ``extract_calls`` (questions for a last answer when a limit ended a run), ``failed_calls`` (calls of
any kind that failed for good; they are in none of the other counts), ``input_tokens``, ``output_tokens``, ``cost`` (US
dollars; None: unknown, since a model that answered has no known price), ``ahead_calls``, ``ahead_wasted``, ``by_model``
(``calls``, ``failed_calls``, ``input_tokens``, ``output_tokens`` and ``cost`` by model name)."""

_COUNTS = (
    "calls", "root_calls", "extract_calls", "failed_calls", "input_tokens", "output_tokens", "ahead_calls",
    "ahead_wasted",
)  # fmt: skip
_MODEL_COUNTS = ("calls", "failed_calls", "input_tokens", "output_tokens")

_MIN_OUTPUT_TOKENS = 16  # an answer shorter than this is not worth its call
_LAST_OUTPUT_TOKENS = 1_000  # kept for the answer that is asked for when a limit ends the run
_LAST_SHARE = 0.25  # the most of a token or cost limit that is kept for it
_LAST_SECONDS_SHARE, _LAST_SECONDS = 0.1, 30.0  # of a time limit: a tenth, at most half a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run; those marked *tree* hold over the run and all its child RLMs together."""

    max_iterations: int = 20
    """Root LM turns of one RLM (each child counts its own). Repair turns count too."""
    max_depth: int = 1
    """0: no sub-calls. 1: sub-LM calls. 2: `rlm_query` starts child RLMs, whose sub-calls are LM calls; and so on."""
    max_calls: int | None = 500
    """*Tree*: sub-LM calls and turns of child RLMs."""
    max_tokens: int | None = None
    """*Tree*: input and output tokens of all calls."""
    max_cost: float | None = None
    """*Tree*: US dollars; needs a price for every model: common ones are known, ``prices=`` gives others."""
    max_seconds: float | None = None
    """*Tree*: wall time from the start of the run, in seconds, time before a resume included."""
    max_concurrency: int = 32
    """*Tree*: model calls in flight at once."""
    requests_per_minute: int | None = None
    """*Tree*: model calls started in any 60 seconds."""
    tokens_per_minute: int | None = None
    """*Tree*: estimated tokens of the calls started in any 60 seconds."""
    max_repairs: int = 3
    """Consecutive replies without usable code or answer after which the run ends with ``finish_reason="error"``, or
    ``"unsubmitted"`` if they hold a plain answer."""
    max_output_chars: int = 10_000
    """Characters of a cell's output that the root LM sees (head and tail of longer ones)."""
    max_output_tokens: int = 8_192
    """Output tokens reserved for a call when tokens or cost are limited; the call is then also capped at it."""
    call_timeout: float = 300.0
    """Seconds after which one model call is given up (and retried); ``math.inf``: never."""
    max_retries: int = 3
    """Retries of a model call on rate limits, server errors, time-outs and lost connections."""

    @classmethod
    def of(cls, given: Limits | Mapping[str, Any] | None, **defaults: Any) -> Limits:
        """Limits from what a user gives: `Limits`, a dict of some of its fields, or None.

        Args:
            given: limits.
            **defaults: fields that differ from the class's defaults where ``given`` is None or a dict.

        Raises:
            InputError: it is none of these, or a limit is unusable.
        """
        if isinstance(given, Limits):
            return given
        if given is None or isinstance(given, Mapping):
            return cls(**{**defaults, **{str(name): value for name, value in (given or {}).items()}})
        raise InputError(f"limits={given!r}: give Limits(max_iterations=...), or a dict of limits")

    def describe(self, *, sub_calls: bool = True) -> str:
        """The limits of the tree in a few words for the root LM; empty when there are none."""
        return _in_words(
            self.max_calls if sub_calls else None,
            self.max_tokens,
            None if self.max_cost is None else f"{self.max_cost:g}",
            None if self.max_seconds is None else f"{self.max_seconds:g}",
        )

    def __post_init__(self) -> None:
        """Refuse nonsense before any model is called."""
        least = {"max_iterations": 1, "max_depth": 0, "max_concurrency": 1, "max_output_chars": 200}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and "None" in str(field.type):
                continue
            wanted = float if "float" in str(field.type) else int
            if isinstance(value, bool) or not isinstance(value, int | wanted) or math.isnan(value):
                raise InputError(
                    f"limit {field.name}={value!r}: give {'a number' if wanted is float else 'an integer'}"
                )
            minimum = least.get(field.name, 0)
            if value < minimum:
                raise InputError(f"limit {field.name}={value!r} is too small: give at least {minimum}")


# A frozen dataclass writes its own __init__; wrapped here, a misspelt limit names the one that was meant.
Limits.__init__ = checked("Limits")(Limits.__init__)  # type: ignore[method-assign]


def limits_remedy(name: str, value: Any) -> str:
    """What to say of an argument that is a limit, where ``limits`` is the argument."""
    return f"give limits=Limits({name}={value!r})" if name in {one.name for one in fields(Limits)} else ""


def add_usage(left: Usage | None, right: Usage | None) -> Usage:
    """Sum of two usages (the reducer of the state's ``usage``)."""
    if not left or not right:
        return dict(left or right or {})
    total = _added(left, right, [key for key in _COUNTS if key in left or key in right])
    models = {**left.get("by_model", {})}
    for name, counts in right.get("by_model", {}).items():
        models[name] = _added(models.get(name, {}), counts, _MODEL_COUNTS)
    total["by_model"] = models
    return total


def check_usage(usage: Any, least: float = 0) -> None:
    """Check figures that come from outside, such as a state that a client has edited.

    Args:
        usage: the figures.
        least: the smallest number that one may have.

    Raises:
        InputError: they are no usage.
    """
    figures = dict(usage) if isinstance(usage, dict) else {"usage": usage}
    models = figures.pop("by_model", {})
    for one in (figures, *(models.values() if isinstance(models, dict) else ({"by_model": models},))):
        for name, value in one.items() if isinstance(one, dict) else (("by_model", one),):
            if isinstance(value, bool) or not (value is None or (isinstance(value, int | float) and value >= least)):
                raise InputError(f"usage: {name}={str(value)[:80]} is no figure: give a number of at least {least}")


def subtract_usage(total: Usage, before: Usage) -> Usage:
    """What came on top of ``before``."""
    earlier = before.get("by_model", {})
    models = {name: _difference(figures, earlier.get(name, {})) for name, figures in total.get("by_model", {}).items()}
    models = {name: figures for name, figures in models.items() if any(figures.values())}
    rest = _difference({key: value for key, value in total.items() if key != "by_model"}, before)
    costs = [figures.get("cost", 0) for figures in models.values()]
    if "cost" in rest and rest["cost"] is None and None not in costs:
        rest["cost"] = sum(costs)  # what is unknown was there before
    return {**rest, "by_model": models}


def empty_usage() -> Usage:
    """A usage of nothing."""
    return {**dict.fromkeys(_COUNTS, 0), "cost": 0, "by_model": {}}


def _added(left: Mapping[str, Any], right: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    total: dict[str, Any] = {key: left.get(key, 0) + right.get(key, 0) for key in keys}
    if "cost" in left or "cost" in right:
        costs = left.get("cost", 0), right.get("cost", 0)
        total["cost"] = None if None in costs else sum(costs)
    return total


def _difference(total: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Figure by figure; an unknown cost is unknown as long as anything came on top."""
    counts = {key: value - before.get(key, 0) for key, value in total.items() if key != "cost"}
    if "cost" in total:
        costs = total["cost"], before.get("cost", 0)
        unknown = None if any(counts.values()) else 0
        counts["cost"] = unknown if None in costs else costs[0] - costs[1]
    return counts


def _known_cost(usage: Usage) -> float:
    """Dollars of the models whose prices are known."""
    cost = usage.get("cost")
    if cost is None:
        return float(sum(figures.get("cost") or 0.0 for figures in usage.get("by_model", {}).values()))
    return float(cost)


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left; None where there is no limit."""

    calls: int | None
    tokens: int | None
    cost: float | None
    seconds: float | None

    def describe(self, *, sub_calls: bool = True) -> str:
        """The balance in a few words for the root LM; empty when nothing is limited."""
        return _in_words(
            self.calls if sub_calls else None,
            self.tokens,
            None if self.cost is None else f"{self.cost:.4f}",
            None if self.seconds is None else f"{self.seconds:.0f}",
        )


def _in_words(calls: int | None, tokens: int | None, cost: str | None, seconds: str | None) -> str:
    parts = (
        None if calls is None else f"{calls:,} sub-calls",
        None if tokens is None else f"{tokens:,} tokens",
        cost and f"${cost}",
        seconds and f"{seconds} seconds",
    )
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """A place for one call.

    Attributes:
        model: its name.
        kind: whose call it is.
        input_tokens: estimated upper bound.
        output_tokens: what the call may produce at most; None when nothing limits it.
        cost: dollars that this would cost.
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


class Ledger:
    """Keeps one call tree within its limits. Thread-safe.

    Args:
        limits: of the run.
        prices: prices of the models.
        clock: seconds, monotonic.
    """

    def __init__(
        self, limits: Limits, prices: PriceTable | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._prices = prices or PriceTable()
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()
        self._used = empty_usage()
        self._reserved: set[Reservation] = set()
        self._waiting: list[Future[None]] = []
        self._last_tokens = 0
        self._last_cost = 0.0

    def keep_for_last(self, model: str, input_tokens: int) -> None:
        """Keep enough of the budget for one last question to the root LM, whose prompt grows with the run."""
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
        """Reserve the worst case of a call.

        Args:
            model: name of the model.
            kind: ``root`` calls do not count as sub-calls.
            input_tokens: estimated upper bound of the prompt.
            output_tokens: most that the call can produce; default ``limits.max_output_tokens``.

        Returns:
            The reservation, or a future to wait for before asking again: it does not fit beside the calls in
            flight, but may when they are settled.

        Raises:
            BudgetExceededError: it does not fit at all.
        """
        with self._lock:
            self._check_time(kind)
            limits = self.limits
            if kind == "sub" and limits.max_calls is not None and self._left_calls() < 1:
                raise BudgetExceededError(f"all {limits.max_calls} sub-calls of this run are used", limit="max_calls")
            wanted = min(output_tokens or limits.max_output_tokens, limits.max_output_tokens)
            room = self._output_room(model, kind, input_tokens, beside=self._reserved)
            alone = self._output_room(model, kind, input_tokens, beside=())
            if room is not None and alone is not None:
                if alone < min(wanted, _MIN_OUTPUT_TOKENS):
                    raise self._too_expensive(kind, input_tokens)
                if room < min(wanted, alone):
                    # Better wait for the calls in flight, which mostly take less than they reserved, than be cut off.
                    future: Future[None] = Future()
                    self._waiting.append(future)
                    return future
            capped = None if room is None else min(wanted, room)
            price = self._prices.require(model) if limits.max_cost is not None else None
            cost = price.cost(input_tokens, capped or 0) if price else 0.0
            reservation = Reservation(model, kind, input_tokens, capped, cost)
            self._reserved.add(reservation)
            return reservation

    def settle(self, reservation: Reservation, input_tokens: int, output_tokens: int) -> Usage:
        """Book what a call really took.

        Returns:
            Its usage alone, to be added to the state.
        """
        cost = self._prices.cost(reservation.model, input_tokens, output_tokens)
        usage: Usage = {
            **({"extract_calls": 1} if reservation.kind == "extract" else {}),
            "calls": int(reservation.kind == "sub"),
            "root_calls": int(reservation.kind == "root"),
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost": cost,
            "by_model": {
                reservation.model: {
                    "calls": 1,
                    "failed_calls": 0,
                    "input_tokens": input_tokens,
                    "output_tokens": output_tokens,
                    "cost": cost,
                }
            },
        }
        self._give_back(reservation, usage)
        return usage

    def release(self, reservation: Reservation) -> None:
        """Give a reservation back unused (the call never left, or was given up)."""
        self._give_back(reservation, None)

    def fail(self, reservation: Reservation) -> Usage:
        """Book a call that failed for good: it is counted, and costs nothing that anybody told.

        Returns:
            Its usage alone, to be added to the state.
        """
        usage: Usage = {"failed_calls": 1, "by_model": {reservation.model: {"failed_calls": 1, "cost": 0}}}
        self._give_back(reservation, usage)
        return usage

    def book(self, usage: Usage) -> None:
        """Add usage that came from elsewhere: restored from a checkpoint, or counts of run-ahead."""
        with self._lock:
            self._used = add_usage(self._used, usage)

    def restore_time(self, seconds: float) -> None:
        """Count seconds that passed before a resume."""
        self._start -= seconds

    # -- reading

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return self._clock() - self._start

    @property
    def used(self) -> Usage:
        """What the whole tree has used so far."""
        with self._lock:
            return add_usage(self._used, empty_usage())

    def balance(self) -> Balance:
        """What is left beside the calls in flight."""
        with self._lock:
            limits = self.limits
            return Balance(
                None if limits.max_calls is None else max(0, self._left_calls()),
                None if limits.max_tokens is None else max(0, self._left_tokens(self._reserved)),
                None if limits.max_cost is None else max(0.0, self._left_cost(self._reserved)),
                None if limits.max_seconds is None else max(0.0, limits.max_seconds - self.seconds),
            )

    def room_ahead(self) -> int | None:
        """How many calls may be made that nobody waits for yet; None: no bound.

        Half of the calls that are left, and none in the last quarter of the other limits: what is made in vain must not
        be missing where it is needed.
        """
        balance, limits = self.balance(), self.limits
        for left, limit in (
            (balance.tokens, limits.max_tokens),
            (balance.cost, limits.max_cost),
            (balance.seconds, limits.max_seconds),
        ):
            if left is not None and limit is not None and left < limit / 4:
                return 0
        return None if balance.calls is None else balance.calls // 2

    def seconds_left(self, kind: CallKind = "root") -> float | None:
        """Seconds until the time is over for this kind of call, None without a limit."""
        limit = self.limits.max_seconds
        if limit is None:
            return None
        kept = 0.0 if kind == "extract" else min(limit * _LAST_SECONDS_SHARE, _LAST_SECONDS)
        return limit - kept - self.seconds

    def exhausted(self) -> str | None:
        """Name of a limit that allows no further turn of the root LM, None while there is none."""
        left = self.seconds_left()
        with self._lock:
            if left is not None and left <= 0:
                return "max_seconds"
            if self.limits.max_tokens is not None and self._left_tokens((), "root") < _MIN_OUTPUT_TOKENS:
                return "max_tokens"
            if self.limits.max_cost is not None and self._left_cost((), "root") <= 0:
                return "max_cost"
        return None

    # -- parts, called with the lock held

    def _check_time(self, kind: CallKind) -> None:
        left = self.seconds_left(kind)
        if left is not None and left <= 0:
            raise BudgetExceededError(f"the run's {self.limits.max_seconds:g} seconds are over", limit="max_seconds")

    def _left_calls(self) -> int:
        in_flight = sum(reservation.kind == "sub" for reservation in self._reserved)
        return (self.limits.max_calls or 0) - int(self._used["calls"]) - in_flight

    def _left_tokens(self, beside: Iterable[Reservation], kind: CallKind = "extract") -> int:
        used = int(self._used["input_tokens"]) + int(self._used["output_tokens"])
        kept = 0 if kind == "extract" else self._last_tokens
        return (self.limits.max_tokens or 0) - used - kept - sum(one.tokens for one in beside)

    def _left_cost(self, beside: Iterable[Reservation], kind: CallKind = "extract") -> float:
        kept = 0.0 if kind == "extract" else self._last_cost
        return (self.limits.max_cost or 0.0) - _known_cost(self._used) - kept - sum(one.cost for one in beside)

    def _output_room(
        self, model: str, kind: CallKind, input_tokens: int, *, beside: Collection[Reservation]
    ) -> int | None:
        """Output tokens that fit beside the given reservations; None without a token or cost limit."""
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
        left = max(0, self._left_tokens((), kind))
        if limits.max_tokens is not None and left - input_tokens < _MIN_OUTPUT_TOKENS:
            return BudgetExceededError(
                f"a call of about {input_tokens:,} tokens does not fit into the {left:,} left of {limits.max_tokens:,}",
                limit="max_tokens",
            )
        money = max(0.0, self._left_cost((), kind))
        return BudgetExceededError(
            f"a call of about {input_tokens:,} tokens does not fit into the ${money:.4f} that are left",
            limit="max_cost",
        )

    def _give_back(self, reservation: Reservation, usage: Usage | None) -> None:
        with self._lock:
            self._reserved.discard(reservation)
            if usage is not None:
                self._used = add_usage(self._used, usage)
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)


CHARS_PER_TOKEN: Final = 3
"""Of ASCII text, at the least: the same cautious estimate as `estimate_tokens`."""


def estimate_tokens(text: str) -> int:
    """Upper estimate of the tokens of a text without a tokenizer: bytes / 3.

    ASCII words take about 4 bytes a token, Chinese and Japanese characters 3 bytes and about one token.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return size // CHARS_PER_TOKEN + 1
