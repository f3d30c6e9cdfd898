"""`MontySandbox`: the executor that opens monty sessions."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
import time
import weakref
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from rlm_adapters.errors import InputError, IsolationError, MissingExtraError, SandboxError
from rlm_adapters.forking import forget_in_children
from rlm_adapters.sandbox.host.driving import describe_functions
from rlm_adapters.sandbox.host.executor import check_require
from rlm_adapters.sandbox.host.inputs import FileVariable, Inputs
from rlm_adapters.sandbox.host.runahead import DEFAULT_WIDTH, AheadAccount
from rlm_adapters.sandbox.host.threads import Threads
from rlm_adapters.sandbox.protocol.frames import to_plain
from rlm_adapters.sandbox.protocol.types import CellRecord, HostFunction, Isolation, LaterInputs, SandboxLimits

if TYPE_CHECKING:
    from rlm_adapters.sandbox.monty.session import MontySession
    from rlm_adapters.sandbox.monty.worker import Worker

_MAX_WORKERS: Final = 512
_MAX_CALLS: Final = 1_000_000
_BASE_BYTES: Final = 512 << 20
_INPUT_FACTOR: Final = 6


@dataclass(slots=True)
class _Library:
    """State of pydantic-monty, which has one set of threads for the whole process."""

    used_in: int | None = None


_library: Final = _Library()


class MontySandbox:
    """Runs cells in pydantic-monty, another Python interpreter. Thread-safe.

    Differences to `Sandbox`: it runs less of Python; it has no run-ahead (but calls that a cell awaits together are
    sent together); the clock does not move; in a batch, a failed call is None; files are read-only copies.

    Args:
        limits: limits of every session. ``cpu_seconds`` limits the time in which a cell executes.
        require: ``"os"`` is refused, because the operating system does not confine monty's workers here.

    Raises:
        MissingExtraError: pydantic-monty is not installed.
        IsolationError: ``require`` cannot be met.
    """

    isolation: Final[Isolation] = "process"

    def __init__(self, *, limits: SandboxLimits = SandboxLimits(), require: Isolation | None = None) -> None:  # noqa: B008 - frozen
        try:
            import pydantic_monty  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtraError(
                'the executor "monty" needs pydantic-monty: pip install "rlm-adapters[monty]"'
            ) from None
        check_require(require)
        if require == "os":
            raise IsolationError('monty workers are not confined by the operating system: use Sandbox for require="os"')
        self._monty = pydantic_monty
        self._limits = limits
        self._lock = threading.Lock()
        self._pool: Any = None
        self._threads = Threads("rlm-monty")
        forget_in_children(self)
        self._sessions: weakref.WeakSet[MontySession] = weakref.WeakSet()

    @property
    def limits(self) -> SandboxLimits:
        """Limits of every session."""
        return self._limits

    def open(
        self,
        *,
        variables: Mapping[str, object] = {},
        files: Mapping[str, bytes | str | os.PathLike[str]] = {},
        functions: Sequence[HostFunction] = (),
        output_fields: Sequence[str] | None = None,
        seed: int = 0,
        epoch: float | None = None,
        journal: Sequence[CellRecord] = (),
        ahead: AheadAccount | None = None,  # noqa: ARG002 - there is no run-ahead
        scope: Hashable | None = None,  # noqa: ARG002
        later: Sequence[LaterInputs] = (),
    ) -> MontySession:
        """Open a session, and replay the journal in it.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable`.
            files: files of the workspace by their path there: bytes, or the path of a local file.
            functions: functions that cells can call.
            output_fields: names that positional arguments of SUBMIT are bound to.
            seed: of the session's random numbers.
            epoch: time of its clock, in seconds, which does not move; None: now. A replay needs the same time.
            journal: finished cells of an earlier session with the same inputs.
            ahead: not used.
            scope: not used.
            later: inputs that came when some cells of the journal had been run, in order; their files are there from
                the beginning.

        Raises:
            InputError: an input, file or function cannot be offered.
            SandboxError: no worker can be had.
            ReplayDivergenceError: the journal does not rebuild what it did before.
        """
        from rlm_adapters.sandbox.monty.session import MontySession  # noqa: PLC0415 - imports the extra

        Inputs(variables, files, later)  # checks the names
        described, _ = describe_functions(functions)
        values = {name: _value(name, value) for name, value in variables.items()}
        renewed = [(one.after, {name: _value(name, value) for name, value in one.variables.items()}) for one in later]
        every = {**files, **{path: data for one in later for path, data in one.files.items()}}
        contents = {path: data if isinstance(data, bytes) else _read(path, data) for path, data in every.items()}
        instant = time.time() if epoch is None else epoch
        size = sum(_size(value) for given in (values, *(given for _, given in renewed)) for value in given.values())
        session = MontySession(
            lambda: self._make_worker(contents, size, seed, instant),
            self.thread_pool,
            [(0, values), *renewed],
            described,
            output_fields=output_fields,
            output_chars=self._limits.output_chars,
            seed=seed,
            epoch=instant,
            journal=journal,
        )
        try:
            session.warm()
        except BaseException:
            session.close()
            raise
        self._sessions.add(session)
        return session

    def ahead_account(self, width: int = DEFAULT_WIDTH) -> AheadAccount:  # noqa: ARG002 - there is no run-ahead
        """An account that is not enabled, because there is no run-ahead."""
        return AheadAccount(enabled=False)

    def forget_parent(self) -> Any:
        """Start again in a forked child, without threads and sessions."""
        inherited = (self._threads, self._pool, list(self._sessions))
        self._threads, self._pool = Threads("rlm-monty"), None
        self._sessions = weakref.WeakSet()
        self._lock = threading.Lock()
        return inherited

    def thread_pool(self) -> Threads:
        """Threads for the async methods of sessions, separate from those of asyncio."""
        return self._threads

    def close(self) -> None:
        """Close all sessions and end the workers. Can be called twice."""
        for session in list(self._sessions):
            session.close()
        with self._lock:
            pool, self._pool = self._pool, None
        self._threads.shutdown(wait=True, cancel_futures=True)
        if pool is not None:
            pool.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_worker(self, files: Mapping[str, bytes], size: int, seed: int, epoch: float) -> Worker:
        if _library.used_in not in (None, os.getpid()):
            raise SandboxError(
                "pydantic-monty was used before this process was forked, and cannot be used in the child: use it the "
                "first time after the fork, or use the default sandbox"
            )
        _library.used_in = os.getpid()
        from rlm_adapters.sandbox.monty.worker import Worker  # noqa: PLC0415 - imports the extra

        memory = self._limits.memory_bytes
        session = self._running_pool().checkout(
            limits={
                "max_feed_duration_secs": self._limits.cpu_seconds,
                "max_memory": _BASE_BYTES + _INPUT_FACTOR * size if memory is None else memory,
                "max_suspensions": _MAX_CALLS,
            },
            os_policy={
                "datetime": dt.datetime.fromtimestamp(epoch, dt.UTC),
                "sleep": "zero",
                "random_start": {"seed": seed},
            },
        )
        access = self._monty.OSAccess([self._monty.MemoryFile(f"/{path}", _text(data)) for path, data in files.items()])
        return Worker(session, access)

    def _running_pool(self) -> Any:
        with self._lock:
            if self._pool is None:
                pool = self._monty.Monty(
                    min_processes=1, max_processes=_MAX_WORKERS, request_timeout=self._limits.wall_seconds
                )
                try:
                    pool.__enter__()
                except (OSError, RuntimeError, self._monty.MontyError) as error:
                    raise SandboxError(f"monty's workers could not be started: {error}") from None
                self._pool = pool
            return self._pool


def _value(name: str, value: object) -> Any:
    """An input in the exact types that are allowed in the sandbox."""
    if isinstance(value, FileVariable):
        data = _read(name, value.path)
        try:
            return data if value.kind == "bytes" else data.decode() if value.kind == "text" else json.loads(data)
        except ValueError as error:
            raise InputError(f"{name!r} is not {value.kind}: {error}") from None
    try:
        return to_plain(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"the variable {name!r} cannot enter the sandbox: {error}") from None


def _read(name: str, path: object) -> bytes:
    try:
        if isinstance(path, int):
            return os.pread(path, os.fstat(path).st_size, 0)
        return Path(path).read_bytes()  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{name!r} cannot be read: {error.strerror or error}") from None


def _text(data: bytes) -> str | bytes:
    """The data as text if it is UTF-8, else as bytes: a file of monty has one of the two types."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _size(value: Any) -> int:
    """The approximate memory of a value."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(_size(item) for item in value) + 64 * len(value)
    return sum(_size(item) for item in value.values()) + 128 * len(value) if isinstance(value, dict) else 32
