"""Run-ahead in one worker: decide when to take a snapshot, and answer the host's frame ``look``."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from rlm_adapters.sandbox.protocol.frames import Message, encode_body
from rlm_adapters.sandbox.protocol.types import HostFunction
from rlm_adapters.sandbox.repl.repl import Repl, cell_name
from rlm_adapters.sandbox.runahead.child import AT_EFFECT, Rehearsal
from rlm_adapters.sandbox.runahead.reach import can_gain, may_ask
from rlm_adapters.sandbox.runahead.snapshot import Snapshot
from rlm_adapters.sandbox.runtime.hostcalls import CallHost

_PREFIX_SECONDS: Final = 0.5
"""If a cell takes more CPU time up to a call, it is not run ahead there: each wave would need this time again."""
_CHILD_SECONDS: Final = 0.5
"""CPU time of a child, in addition to three times that of the cell so far, because instrumented code is slower."""

_REHEARSAL_SECONDS: Final = 1.0
"""Wall time of a look at the beginning of an unfinished cell. The cell may have to wait for it."""
FOUND_NOTHING: Final = b'{"t":"found","more":false,"calls":[]}'
"""The body of the frame for: no call was found, and another look would find none."""


class Ahead:
    """Run-ahead over the cells of one worker.

    Args:
        channel_fd: the channel to the host.
        repl: runs the cells.
        functions: functions that cells can call.

    Attributes:
        answer: answers the calls of the cell in a child; None in the worker itself.
    """

    def __init__(self, channel_fd: int, repl: Repl, functions: Sequence[HostFunction]) -> None:
        self._channel_fd = channel_fd
        self._repl = repl
        self._pure = frozenset(function.name for function in functions if not function.effects)
        self._effects = frozenset(function.name for function in functions if function.effects)
        self._codes: dict[str, str] = {}
        self._snapshot: Snapshot | None = None
        self._ended: list[int] = []
        self._started = 0.0
        self._seconds = 0.0
        self.answer: CallHost | None = None

    def begin(self, code: str, cpu_seconds: float, *, wanted: bool) -> None:
        """Before a cell with the limit ``cpu_seconds``: take a snapshot if run-ahead can help."""
        earlier = dict(self._codes)
        self._codes[cell_name(self._repl.cells + 1)] = code
        self._reap()
        if wanted and can_gain(code, self._repl.namespace, self._pure):
            rehearsal = Rehearsal(self._repl, code, earlier, self._effects)
            with contextlib.suppress(OSError):  # without a process the cell runs without run-ahead
                self._snapshot = Snapshot(self._channel_fd, self._prepare(rehearsal), rehearsal.run)
        self._started = time.process_time()
        self._seconds = cpu_seconds

    def _prepare(self, rehearsal: Rehearsal) -> Callable[[], None]:
        def prepare() -> None:
            self.answer = rehearsal.call_host
            rehearsal.prepare()

        return prepare

    def look(self, message: Message) -> bytes:
        """The body of the frame that answers the host's frame ``look``."""
        lines: list[bytes] = []
        taken = time.process_time() - self._started
        seconds = min(_CHILD_SECONDS + 3 * taken, self._seconds - taken)
        snapshot = self._snapshot
        if snapshot is not None and snapshot.alive:
            if taken > _PREFIX_SECONDS or seconds <= 0:
                snapshot.close()
            else:
                request = encode_body({**message, "cpu": seconds})
                lines, used = snapshot.look(request)
                self._seconds -= used
        return _found(lines, more=snapshot is not None and snapshot.alive)

    def rehearse(self, message: Message) -> bytes:
        """The body of the frame that answers the host's frame ``rehearse``: a look at the beginning of the next cell.

        No cell runs, so the snapshot is taken now. It serves one child, because the next look has more code to run.
        """
        code = message["code"]
        if not may_ask(message["new"], self._repl.namespace, self._pure):
            return _found([], more=True)
        rehearsal = Rehearsal(self._repl, code, dict(self._codes), self._effects, tells_effect=True)
        try:
            snapshot = Snapshot(self._channel_fd, self._prepare(rehearsal), rehearsal.run)
        except OSError:
            return FOUND_NOTHING
        self._reap()
        lines, _ = snapshot.look(encode_body(message), _REHEARSAL_SECONDS)
        more = snapshot.alive and AT_EFFECT not in lines
        snapshot.close()
        self._ended.append(snapshot.pid)
        return _found([line for line in lines if line != AT_EFFECT], more=more)

    def end(self) -> None:
        """The cell has ended."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._ended.append(self._snapshot.pid)
            self._snapshot = None

    def _reap(self) -> None:
        """Reap the ended snapshots. Freeing a large one takes time, so nothing waits for it."""
        self._ended = [pid for pid in self._ended if os.waitpid(pid, os.WNOHANG)[0] == 0]


def _found(lines: Sequence[bytes], *, more: bool) -> bytes:
    """The body of the frame with found calls, each as JSON; ``more``: another look may find others."""
    return b'{"t":"found","more":' + (b"true" if more else b"false") + b',"calls":[' + b",".join(lines) + b"]}"
