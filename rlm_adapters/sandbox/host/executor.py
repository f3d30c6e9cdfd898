"""`Executor` and `ExecutorSession`: the protocols of whatever runs cells.

Executors are `Sandbox`, `MontySandbox`, which uses another interpreter, and `RaySandbox`, which runs cells on the nodes
of a cluster. Another one (a container, a remote service) is a class with these methods. A session can be rebuilt from
its journal anywhere, so remote and lost workers need no special methods. docs/security.md says how to write one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol, get_args, runtime_checkable

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.host.runahead import DEFAULT_WIDTH, AheadAccount
from rlm_adapters.sandbox.protocol.types import Answer, CellRecord, Done, HostFunction, Isolation, LaterInputs, Pending


class ExecutorSession(Protocol):
    """One namespace that runs cells one by one. Use it from one thread at a time; `kill` and `close` from any."""

    @property
    def journal(self) -> tuple[CellRecord, ...]:
        """The finished cells, also those that were replayed when the session was opened."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""

    def start(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """Run a cell until it ends or waits for calls that ``answers`` does not answer.

        Args:
            code: the cell.
            answers: known answers by call id, of an earlier worker's run of the same cell.

        Raises:
            SandboxError: there is no worker, or a cell is still waiting.
        """

    def resume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """Continue the waiting cell, also if its worker was lost in the meantime.

        Raises:
            SandboxError: no cell waits, or there is no worker.
        """

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """`start` without blocking the event loop. A cancellation kills the worker."""

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """`resume` without blocking the event loop. A cancellation kills the worker."""

    def kill(self) -> None:
        """Kill the worker. The session can continue with a new one."""

    def close(self) -> None:
        """Kill the worker for good."""


@runtime_checkable
class Executor(Protocol):
    """Opens sessions. Thread-safe."""

    def open(
        self,
        *,
        variables: Mapping[str, object] = {},
        files: Mapping[str, Any] = {},
        functions: Sequence[HostFunction] = (),
        output_fields: Sequence[str] | None = None,
        seed: int = 0,
        epoch: float | None = None,
        journal: Sequence[CellRecord] = (),
        ahead: AheadAccount | None = None,
        scope: Hashable | None = None,
        later: Sequence[LaterInputs] = (),
    ) -> ExecutorSession:
        """Open a session, and replay the journal in it.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable`.
            files: read-only files of the workspace by their path there: bytes, or the path of a local file.
            functions: functions that cells can call and the host answers.
            output_fields: names for the positional arguments of SUBMIT.
            seed: seed of the session's random numbers.
            epoch: start time of its clock, in seconds; None: now. A replay needs the same time.
            journal: finished cells of an earlier session with the same inputs.
            ahead: counts and limits the run-ahead. An executor without run-ahead ignores it.
            scope: sessions of one scope (a run and its children) may share one copy of the same inputs.
            later: inputs that were added after some cells of the journal, in order.

        Raises:
            InputError: an input, file or function cannot be used.
            SandboxError: there is no worker.
            ReplayDivergenceError: the replay of the journal differs from the first run.
        """

    def ahead_account(self, width: int = DEFAULT_WIDTH) -> AheadAccount:
        """A new account for the run-ahead of some sessions. It is not enabled if there is no run-ahead.

        Args:
            width: most calls that are sent together.
        """

    def thread_pool(self) -> futures.Executor:
        """Threads for blocking work, separate from those of asyncio."""

    def close(self) -> None:
        """Close all sessions. Can be called twice."""


def check_require(require: Any) -> None:
    """Check the argument ``require=``.

    Raises:
        InputError: it is not an isolation level.
    """
    if require not in (None, *get_args(Isolation)):
        raise InputError(f'require={require!r} is unknown: use "os", "process" or None')
