"""The host's side of run-ahead: how far to run ahead, the calls that were found, and the unused ones."""

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
"""``ahead``: the calls of a plain loop are found ahead and made together. ``stream``: also while the root LM is still
writing the cell, for its finished statements. ``off``: one after the other."""

DEFAULT_WIDTH: Final = 128
"""Most calls that are sent together."""
MAX_WASTE: Final = 0.10
"""If a larger share of the calls made ahead is not used, run-ahead stops."""
_FREE_WASTE: Final = 4
"""Number of unused calls that is always accepted."""
_FIRST_WINDOW: Final = 32
_SMALLEST_WINDOW: Final = 4
_GROWTH: Final = 4
_MAX_OCCURRENCE: Final = 1_000_000
_MAX_PLACES: Final = 1_000
_REHEARSAL_SECONDS: Final = 0.25
"""CPU time of a look at the beginning of a cell."""


def check_parallel(value: Any) -> Parallel:
    """Check the argument ``parallel=``.

    Raises:
        InputError: it is unknown.
    """
    choices: tuple[Parallel, ...] = get_args(Parallel)
    for choice in choices:
        if value == choice:
            return choice
    raise InputError(f'parallel={value!r} is unknown: use "ahead", "stream" or "off"')


def runs_ahead(value: Any) -> bool:
    """Whether a sandbox with this ``parallel`` option runs ahead.

    Raises:
        InputError: it is unknown.
    """
    return check_parallel(value) != "off"


@dataclass(frozen=True, slots=True)
class AheadTerms:
    """How far a session can run ahead now, if its account is in another process."""

    window: int
    limit: int | None
    enabled: bool


class AheadAccount:
    """Counts the run-ahead of one session, or of all sessions of a run that share it. Thread-safe.

    Like a congestion window, the number of calls that are sent together starts small. It grows while all found calls
    are used, and is halved if some are not. So a loop whose first answer raises an error costs 31 calls, not 127, and a
    long loop soon runs at full width.

    Args:
        max_ahead: most calls that are sent together, with the one that the cell waits for.
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
        """Calls ahead that the limits of the run allow; None: no limit."""

    @property
    def enabled(self) -> bool:
        """Whether a cell can be run ahead: not switched off, and not stopped because of unused calls."""
        return self._enabled

    @property
    def most(self) -> int:
        """Most calls that are sent together."""
        return self._most

    @property
    def stopped(self) -> bool:
        """Whether too many calls were not used."""
        return not self._enabled and self.wasted > 0

    def terms(self) -> AheadTerms:
        """How far to run ahead now."""
        with self._lock:
            return AheadTerms(self._window, self.limit, self._enabled)

    def keep_to(self, terms: AheadTerms) -> None:
        """Use the terms of another account, which counts for this one, too."""
        with self._lock:
            self._window, self.limit, self._enabled = terms.window, terms.limit, terms.enabled

    def room(self, waiting: int) -> int:
        """Number of calls that can be made ahead, in addition to those that the cell waits for."""
        with self._lock:
            room = self._window - waiting if self._enabled else 0
            return max(0, room if self.limit is None else min(room, self.limit))

    def found(self, count: int, room: int) -> None:
        """A look has found ``count`` calls; ``room`` calls were allowed."""
        with self._lock:
            if count >= room:
                self._window = min(self._most, _GROWTH * self._window)

    def settle(self, answered: int, wasted: int) -> None:
        """A cell has ended: count the calls that were answered ahead, and the unused ones."""
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
        functions: names of the functions that can be called ahead.
        given: calls with answers from the start, which an earlier worker of the same cell found.
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
        """Stop running this cell ahead."""
        self._open = False
        self._reserve.clear()

    def restart(self) -> None:
        """The cell starts again in a new worker."""
        self._told.clear()

    def request(self, waiting: Collection[HostCall], known: Mapping[str, Answer], place: int = 0) -> Message | None:
        """The frame that makes a worker look ahead; None: not now.

        Args:
            waiting: the calls that the cell waits for.
            known: all known answers.
            place: place in the cell at which it waits.
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
        """Calls that an earlier look found but did not send, if the cell has reached the first of them.

        So a loop of independent calls needs one look, and not one for each of its waves.
        """
        room = self._account.room(len(waiting))
        asked = [call.id for call in waiting]
        if not self._open or asked != list(islice(self._reserve, len(asked))):
            return ()
        for call_id in asked:
            del self._reserve[call_id]
        if len(self._reserve) < room and self._cut:
            return ()  # there are more calls to find
        return self._send(room)

    def _backoff_at(self, place: int) -> _Backoff:
        if place not in self._backoff and len(self._backoff) >= _MAX_PLACES:
            place = next(iter(self._backoff))
        return self._backoff.setdefault(place, _Backoff())

    def take(
        self, message: Message, waiting: Collection[HostCall], known: Collection[str], place: int = 0
    ) -> tuple[HostCall, ...]:
        """The calls in a worker's answer to a `request`, with the ids that they have in the cell.

        Args:
            message: the worker's answer.
            waiting: the calls that the cell waits for.
            known: ids of the calls with answers.
            place: place in the cell at which it waits.

        Raises:
            ProtocolError: It is malformed, or names a function that must not be called ahead.
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
        """The next reserved calls, at most ``room``."""
        sent = list(islice(self._reserve, room))
        calls = tuple(self._reserve.pop(key) for key in sent)
        self._account.found(len(calls), room)
        self._offered.update(sent)
        return calls

    def answered(self, calls: Collection[str], waiting: Collection[HostCall]) -> None:
        """Note answers to some calls, while the cell waits for ``waiting``."""
        self._offered -= {call.id for call in waiting}
        self._answered |= self._offered.intersection(calls)

    def settle(self, used: Collection[str]) -> tuple[int, int]:
        """The cell has ended.

        Returns:
            Number of calls made ahead, and number of unused ones.
        """
        # An answer that an earlier worker got and this one did not ask for was made ahead.
        answered = self._answered | self._given.difference(used)
        wasted = len(answered.difference(used))
        self._account.settle(len(answered), wasted)
        return len(answered), wasted


def parse_found(
    message: Message, functions: Collection[str], cell: int, most: int
) -> tuple[tuple[HostCall, ...], bool]:
    """The calls of a ``found`` frame, with the ids that they have in the cell.

    Args:
        message: of the worker.
        functions: names of the functions that can be called ahead.
        cell: index of the cell.
        most: largest number of calls that are read.

    Returns:
        The calls, and whether another look may find more.

    Raises:
        ProtocolError: It is malformed, or names a function that must not be called ahead.
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
    """The frame that makes a worker run the beginning of the next cell ahead.

    Args:
        code: the beginning of the cell.
        new: its last statements, which were not part of an earlier look, and the functions of the cell that they use.
        answers: known answers by the ids of their calls.
        waiting: ids of calls that were found before and have no answer yet.
        most: largest number of reported calls.
        inputs: the round of the cell's inputs.
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
    """Decides when to look ahead at one place of a cell. In a chain of dependent calls there is nothing to find."""

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
        """Note a look. If nothing was found, later looks become less frequent."""
        self._skip, self._vain = (0, 0) if found else (4**self._vain, self._vain + 1)


def _key(call: str) -> str:
    """The id of a call without its cell."""
    return call.partition(":")[2]


def _occurrence(entry: dict[str, Any]) -> int:
    number = entry.get("n")
    if type(number) is not int or not 0 <= number < _MAX_OCCURRENCE:
        raise ProtocolError("a call found ahead without its number")
    return number
