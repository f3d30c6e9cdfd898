"""The host's side: how far to run ahead, what it found, and what of that was in vain."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, TypeAlias, get_args

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.host.messages import parse_call
from rlm_adapters.sandbox.protocol.frames import Message, ProtocolError
from rlm_adapters.sandbox.protocol.journal import answer_to_json, call_hash
from rlm_adapters.sandbox.protocol.types import Answer, HostCall

Parallel: TypeAlias = Literal["ahead", "stream", "off"]
"""Whether the calls of a plain loop are found ahead and made together (``stream``: those of finished statements while
the root LM still writes the rest of the cell), or made one after the other."""

DEFAULT_WIDTH: Final = 128
"""Most calls that go out together."""
MAX_WASTE: Final = 0.10
"""Share of the calls made ahead that may be in vain before run-ahead is stopped."""
_FREE_WASTE: Final = 4
"""Calls in vain that are not yet a sign of anything."""
_FIRST_WINDOW: Final = 32
_SMALLEST_WINDOW: Final = 4
_GROWTH: Final = 4
_MAX_OCCURRENCE: Final = 1_000_000
_MAX_PLACES: Final = 1_000
_REHEARSAL_SECONDS: Final = 0.25
"""CPU time of a look at the beginning of a cell."""


def check_parallel(value: Any) -> Parallel:
    """A user's choice.

    Raises:
        InputError: it is none.
    """
    choices: tuple[Parallel, ...] = get_args(Parallel)
    for choice in choices:
        if value == choice:
            return choice
    raise InputError(f'parallel={value!r} is unknown: use "ahead", "stream" or "off"')


def runs_ahead(value: Any) -> bool:
    """Whether a sandbox that was given this choice runs ahead.

    Raises:
        InputError: it is none.
    """
    return check_parallel(value) != "off"


@dataclass(frozen=True, slots=True)
class AheadTerms:
    """How far a session may run ahead now, for one whose account is in another process."""

    window: int
    limit: int | None
    enabled: bool


class AheadAccount:
    """Counts the run-ahead of one session, or of all sessions of a run that share it. Thread-safe.

    Like a congestion window, the number of calls that go out together starts small, grows while all that was found
    was also used, and is halved when something was not: a loop whose first answer raises an error costs
    31 calls, not 127, and a long loop soon goes at full width.

    Args:
        max_ahead: most calls that go out together, the one that the cell waits for included.
        enabled: False: never run ahead.
    """

    def __init__(self, max_ahead: int = DEFAULT_WIDTH, *, enabled: bool = True) -> None:
        self._most = max_ahead
        self._enabled = enabled and max_ahead > 1
        self._window = min(_FIRST_WINDOW, max_ahead)
        self._lock = threading.Lock()
        self.calls = 0
        self.wasted = 0
        self.limit: int | None = None
        """Calls ahead that the budget of the run has room for; None: no bound."""

    @property
    def enabled(self) -> bool:
        """Whether a cell may be run ahead: neither switched off nor stopped for waste."""
        return self._enabled

    @property
    def most(self) -> int:
        """Most calls that go out together."""
        return self._most

    @property
    def stopped(self) -> bool:
        """Whether too much of it was in vain."""
        return not self._enabled and self.wasted > 0

    def terms(self) -> AheadTerms:
        """How far may be run ahead now."""
        with self._lock:
            return AheadTerms(self._window, self.limit, self._enabled)

    def keep_to(self, terms: AheadTerms) -> None:
        """Go by the terms of another account, which counts for this one too."""
        with self._lock:
            self._window, self.limit, self._enabled = terms.window, terms.limit, terms.enabled

    def room(self, waiting: int) -> int:
        """Calls that may be made ahead beside those that the cell waits for."""
        with self._lock:
            room = self._window - waiting if self._enabled else 0
            return max(0, room if self.limit is None else min(room, self.limit))

    def found(self, count: int, room: int) -> None:
        """A wave has found ``count`` calls of the ``room`` that there was."""
        with self._lock:
            if count >= room:
                self._window = min(self._most, _GROWTH * self._window)

    def settle(self, answered: int, wasted: int) -> None:
        """A cell has ended: of the calls that were answered ahead so many were never asked for."""
        with self._lock:
            self.calls += answered
            self.wasted += wasted
            if wasted:
                self._window = max(_SMALLEST_WINDOW, self._window // 2)
            if self.wasted > max(_FREE_WASTE, MAX_WASTE * self.calls):
                self._enabled = False


class CellAhead:
    """Run-ahead in one cell.

    Args:
        account: of the session.
        cell: index of the cell, as in the ids of its calls.
        functions: names of the functions that may be called ahead.
        given: calls whose answers are there from the start, found by an earlier worker of the same cell.
    """

    def __init__(
        self, account: AheadAccount, cell: int, functions: Collection[str], given: Collection[str] = ()
    ) -> None:
        self._account = account
        self._cell = cell
        self._functions = frozenset(functions)
        self._given = frozenset(given)
        self._told: set[str] = set()
        self._backoff: dict[int, _Backoff] = {}
        self._open = bool(self._functions) and account.enabled
        self._reserve: dict[str, HostCall] = {}
        self._cut = False
        self._offered: set[str] = set()
        self._answered: set[str] = set()

    @property
    def wanted(self) -> bool:
        """Whether the worker should be ready to run this cell ahead."""
        return self._open

    def close(self) -> None:
        """Run this cell ahead no more."""
        self._open = False
        self._reserve.clear()

    def restart(self) -> None:
        """The cell starts over in a new worker, which knows nothing yet."""
        self._told.clear()

    def request(self, waiting: Collection[HostCall], known: Mapping[str, Answer], place: int = 0) -> Message | None:
        """The frame that has a worker look ahead of the calls that the cell waits for; None: not now.

        Args:
            waiting: those calls.
            known: all answers that there are.
            place: where in the cell it waits.
        """
        room = self._account.room(len(waiting))
        if not self._open or room <= 0 or not self._backoff_at(place).is_due():
            return None
        new = {call: answer for call, answer in known.items() if call not in self._told}
        self._told.update(new)
        answers = {_key(call): answer_to_json(answer) for call, answer in new.items()}
        waits = [_key(call.id) for call in waiting]
        return {"t": "look", "answers": answers, "waiting": waits, "most": self._account.most}

    def reserved(self, waiting: Collection[HostCall]) -> tuple[HostCall, ...]:
        """Calls that an earlier look has found and that did not go out then, if the cell has come to the first of them.

        A loop whose calls do not need each other is so looked at once, not once for each of its waves.
        """
        room = self._account.room(len(waiting))
        asked = [call.id for call in waiting]
        if not self._open or asked != list(islice(self._reserve, len(asked))):
            return ()
        for call_id in asked:
            del self._reserve[call_id]
        if len(self._reserve) < room and self._cut:
            return ()  # there is more to be found
        return self._send(room)

    def _backoff_at(self, place: int) -> _Backoff:
        if place not in self._backoff and len(self._backoff) >= _MAX_PLACES:
            place = next(iter(self._backoff))
        return self._backoff.setdefault(place, _Backoff())

    def take(
        self, message: Message, waiting: Collection[HostCall], known: Collection[str], place: int = 0
    ) -> tuple[HostCall, ...]:
        """The calls that a worker's answer to a `request` names, with the ids that the cell itself would give them.

        Args:
            message: the worker's answer.
            waiting: the calls that the cell waits for.
            known: ids of the calls whose answers there are.
            place: where in the cell it waits.

        Raises:
            ProtocolError: It is malformed, or names what may not be called ahead.
        """
        most = self._account.most
        calls, more = parse_found(message, self._functions, self._cell, most)
        self._open = self._open and more
        waits = {call.id for call in waiting}
        found = {call.id: call for call in calls if call.id not in known and call.id not in waits}
        self._reserve, self._cut = found, len(message["calls"]) >= most
        self._backoff_at(place).looked(found=bool(found))
        return self._send(self._account.room(len(waiting)))

    def _send(self, room: int) -> tuple[HostCall, ...]:
        """The next calls of the reserve, no more than there is room for."""
        sent = list(islice(self._reserve, room))
        calls = tuple(self._reserve.pop(key) for key in sent)
        self._account.found(len(calls), room)
        self._offered.update(sent)
        return calls

    def answered(self, calls: Collection[str], waiting: Collection[HostCall]) -> None:
        """Answers to some calls have come, while the cell waits for ``waiting``."""
        self._offered -= {call.id for call in waiting}
        self._answered |= self._offered.intersection(calls)

    def settle(self, used: Collection[str]) -> tuple[int, int]:
        """The cell has ended.

        Returns:
            How many calls were made ahead, and how many of those in vain.
        """
        # What an earlier worker was answered and this one did not ask for can only have been made ahead.
        answered = self._answered | self._given.difference(used)
        wasted = len(answered.difference(used))
        self._account.settle(len(answered), wasted)
        return len(answered), wasted


def parse_found(
    message: Message, functions: Collection[str], cell: int, most: int
) -> tuple[tuple[HostCall, ...], bool]:
    """The calls of a ``found`` frame, with the ids that the cell itself would give them.

    Args:
        message: of the worker.
        functions: names of those that may be called ahead.
        cell: index of the cell.
        most: calls that are read.

    Returns:
        The calls, and whether another look may find more.

    Raises:
        ProtocolError: It is malformed, or names what may not be called ahead.
    """
    if message["t"] != "found" or type(message.get("more")) is not bool or type(message.get("calls")) is not list:
        raise ProtocolError("calls found ahead were expected")
    found = {}
    for entry in message["calls"][:most]:
        call = parse_call(entry, functions)
        key = f"{cell}:{call_hash(call.function, call.args, call.kwargs)}:{_occurrence(entry)}"
        found[key] = HostCall(key, call.function, tuple(call.args), call.kwargs, ahead=True)
    return tuple(found.values()), message["more"]


def rehearsal(
    code: str, new: str, answers: Mapping[str, Answer], waiting: Collection[str], *, most: int, inputs: int
) -> Message:
    """The frame that has a worker run the beginning of the next cell ahead.

    Args:
        code: it.
        new: the statements at its end at which no look has been taken yet, and the functions of the cell that they use.
        answers: those that there are, by the ids of their calls.
        waiting: ids of the calls that were found before and have no answer yet.
        most: calls that are reported.
        inputs: the round of inputs that the cell has.
    """
    return {
        "t": "rehearse",
        "code": code,
        "new": new,
        "answers": {_key(call): answer_to_json(answer) for call, answer in answers.items()},
        "waiting": [_key(call) for call in waiting],
        "most": most,
        "cpu": _REHEARSAL_SECONDS,
        "round": inputs,
    }


class _Backoff:
    """When to look ahead at one place of a cell: a chain of calls that need each other has nothing to find there."""

    def __init__(self) -> None:
        self._skip = 0
        self._vain = 0

    def is_due(self) -> bool:
        """Whether to look now."""
        if self._skip:
            self._skip -= 1
            return False
        return True

    def looked(self, *, found: bool) -> None:
        """It was looked: when nothing was found, less and less often from here on."""
        self._skip, self._vain = (0, 0) if found else (4**self._vain, self._vain + 1)


def _key(call: str) -> str:
    """The id of a call without its cell."""
    return call.partition(":")[2]


def _occurrence(entry: dict[str, Any]) -> int:
    number = entry.get("n")
    if type(number) is not int or not 0 <= number < _MAX_OCCURRENCE:
        raise ProtocolError("a call found ahead without its number")
    return number
