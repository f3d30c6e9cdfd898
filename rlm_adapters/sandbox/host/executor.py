"""What the engine asks of whatever runs its cells.

`Sandbox` is one executor; `MontySandbox` another, in which cells run in an interpreter of its own; `RaySandbox` runs
them on the nodes of a cluster. A further one (a container, a remote service) is a class with these methods. What makes
it one protocol is the journal: a session is rebuilt from it anywhere, so a worker that is far away, or gone, is no
special case. docs/security.md tells how one is written.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol, get_args, runtime_checkable

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.host.runahead import DEFAULT_WIDTH, AheadAccount
from rlm_adapters.sandbox.protocol.types import Answer, CellRecord, Done, HostFunction, Isolation, LaterInputs, Pending


class ExecutorSession(Protocol):
    """One namespace, driven cell by cell. Used from one thread at a time; `kill` and `close` come from any."""

    @property
    def journal(self) -> tuple[CellRecord, ...]:
        """The finished cells, those that were replayed at the opening included."""

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""

    def start(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """Run a cell until it ends or waits for calls that ``answers`` does not answer.

        Args:
            code: the cell.
            answers: known answers by call id, of an earlier worker's run of the same cell.

        Raises:
            SandboxError: no worker can be had, or a cell is still waiting.
        """

    def resume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """Go on with the waiting cell, also when its worker was lost meanwhile.

        Raises:
            SandboxError: no cell waits, or no worker can be had.
        """

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """`start` without blocking the event loop. Cancelled, it kills the worker."""

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """`resume` without blocking the event loop. Cancelled, it kills the worker."""

    def kill(self) -> None:
        """Kill the worker; the session can go on with a new one."""

    def close(self) -> None:
        """Kill the worker for good."""


@runtime_checkable
class Executor(Protocol):
    """Where sessions come from. Thread-safe."""

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
        """Open a session, with the journal replayed in it.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable`.
            files: read-only files of the workspace by their path there: bytes, or the path of a file here.
            functions: what cells may call and the host answers.
            output_fields: names that positional arguments of SUBMIT are bound to.
            seed: of the session's random numbers.
            epoch: instant, in seconds, at which its clock starts; None: now. A replay needs the same.
            journal: finished cells of an earlier session with the same inputs.
            ahead: counts and bounds the run-ahead; an executor that has none ignores it.
            scope: sessions of one scope (a run and its children) may share one copy of what both are given.
            later: inputs that came when some cells of the journal had been run, in order.

        Raises:
            InputError: an input, file or function cannot be offered.
            SandboxError: no worker can be had.
            ReplayDivergenceError: the journal does not rebuild what it did before.
        """

    def ahead_account(self, width: int = DEFAULT_WIDTH) -> AheadAccount:
        """A new account for the run-ahead of some sessions; one that is not enabled if there is none.

        Args:
            width: most calls that should go out together.
        """

    def thread_pool(self) -> futures.Executor:
        """Threads for what blocks, apart from asyncio's own."""

    def close(self) -> None:
        """Close all sessions; harmless when done twice."""


def check_require(require: Any) -> None:
    """Refuse what is no level of isolation that a user may require of an executor.

    Raises:
        InputError: it is none.
    """
    if require not in (None, *get_args(Isolation)):
        raise InputError(f'require={require!r} is unknown: use "os", "process" or None')
