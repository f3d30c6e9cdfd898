"""`Sandbox`: the executor that starts workers on this machine."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from rlm_adapters.errors import InputError, IsolationError, SandboxError
from rlm_adapters.forking import forget_in_children
from rlm_adapters.sandbox.hardening.confinement import ALL_LAYERS
from rlm_adapters.sandbox.host.driving import describe_functions
from rlm_adapters.sandbox.host.executor import check_require
from rlm_adapters.sandbox.host.inputs import Inputs
from rlm_adapters.sandbox.host.runahead import DEFAULT_WIDTH, AheadAccount, Parallel, runs_ahead
from rlm_adapters.sandbox.host.session import Session
from rlm_adapters.sandbox.host.spec import SessionSpec
from rlm_adapters.sandbox.host.threads import Threads
from rlm_adapters.sandbox.host.workers import HeldInputs, WorkerFactory
from rlm_adapters.sandbox.host.zygotes import SharedZygote, shared_zygote
from rlm_adapters.sandbox.protocol.types import CellRecord, HostFunction, Isolation, LaterInputs, SandboxLimits

_T = TypeVar("_T")

_PLAIN_MODULES: Final = (
    "rlm_adapters.sandbox.repl.plain",
    "ctypes",
    "socket",
    "subprocess",
    "signal",
    "mmap",
    "glob",
    "fcntl",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationReport:
    """How workers are confined on this machine, as measured.

    Attributes:
        level: ``os`` if all layers hold, else ``process``.
        layers: the layers that hold, of rlimits, landlock and seccomp.
        notes: why other layers do not hold.
    """

    level: Isolation
    layers: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Sandbox:
    """Runs untrusted Python in confined worker processes, one per session. Thread-safe.

    Keep it as long as you open sessions. They start in milliseconds from a process that all sandboxes of this host
    process share. It ends with the last of them.

    Args:
        limits: limits of every session.
        require: ``"os"``: raise an error if the operating system does not confine the workers.
        allow_modules: real modules that cells can import in addition to the facades (``["numpy"]``). The language
            policy does not apply to them: a cell can reach everything that such a module can reach, within the
            confinement of the operating system.
        parallel: ``"ahead"``: while a cell waits for an LM call, its later calls are found and offered together with
            it (``HostCall.ahead``; see `runahead`). ``"off"``: one after the other.
        max_ahead: most calls that are sent together; default: the ``width`` of `ahead_account`.

    Raises:
        InputError: A limit is wrong.
        IsolationError: ``require`` cannot be met.
    """

    def __init__(
        self,
        *,
        limits: SandboxLimits = SandboxLimits(),  # noqa: B008 - frozen
        require: Isolation | None = None,
        allow_modules: Sequence[str] = (),
        parallel: Parallel = "ahead",
        max_ahead: int | None = None,
        _policy_off: bool = False,
        _layers: Sequence[str] | None = None,
    ) -> None:
        _check_limits(limits)
        check_require(require)
        if not hasattr(os, "fork"):
            raise SandboxError("the sandbox needs a platform with fork (Linux or macOS)")
        if max_ahead is not None and (type(max_ahead) is not int or max_ahead < 1):
            raise InputError(f"max_ahead={max_ahead!r}: give a number of calls, at least 1")
        self._limits = limits
        self._ahead = runs_ahead(parallel)
        self._max_ahead = max_ahead
        self._allow_modules = tuple(allow_modules)
        self._policy_off = _policy_off
        self._only_layers = None if _layers is None else frozenset(_layers)
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._threads = Threads("rlm-sandbox")
        self._zygote = shared_zygote((*allow_modules, *(_PLAIN_MODULES if _policy_off else ())))
        self._zygote.acquire()
        self._held_inputs = HeldInputs(self._zygote)
        self._release = weakref.finalize(self, SharedZygote.release, self._zygote)
        forget_in_children(self)
        if require == "os" and self.isolation != "os":
            report = self.report
            self.close()
            why = "; ".join(report.notes) or "no reason is known"
            raise IsolationError(
                f"this machine confines workers by {', '.join(report.layers) or 'nothing'} only: {why}"
            )

    @property
    def limits(self) -> SandboxLimits:
        """Limits of every session."""
        return self._limits

    @property
    def isolation(self) -> Isolation:
        """The isolation level on this machine."""
        return self.report.level

    @property
    def report(self) -> IsolationReport:
        """The layers that confine the workers, and why others do not."""
        hello = self._zygote.hello()
        layers = tuple(layer for layer in ALL_LAYERS if layer in hello["layers"] and self._wants(layer))
        notes = [*hello["notes"], *(f"{layer} is switched off" for layer in ALL_LAYERS if not self._wants(layer))]
        return IsolationReport(level="os" if layers == ALL_LAYERS else "process", layers=layers, notes=tuple(notes))

    def open(
        self,
        *,
        variables: Mapping[str, object] = {},
        files: Mapping[str, bytes | str | os.PathLike[str]] = {},
        functions: Mapping[str, Callable[..., Any] | HostFunction] | Sequence[HostFunction] = {},
        output_fields: Sequence[str] | None = None,
        seed: int = 0,
        epoch: float | None = None,
        journal: Sequence[CellRecord] = (),
        scope: Hashable | None = None,
        ahead: AheadAccount | None = None,
        later: Sequence[LaterInputs] = (),
    ) -> Session:
        """Open a session: start its worker, and replay the journal in it.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable` for the content of a file.
            files: read-only files of the workspace by their path there: bytes, or the path of a local file.
            functions: functions that cells can call: callables by name for `Session.run`, or descriptions for a host
                that answers with `Session.start` and `Session.resume`.
            output_fields: names for the positional arguments of SUBMIT.
            seed: seed of the session's random numbers.
            epoch: start time of its clock, in seconds; None: now. A replay needs the same time.
            journal: finished cells of an earlier session with the same inputs. They are run again with their answers.
            scope: sessions of one scope (a run and its children) with the same big texts share one copy of them.
            ahead: counts and limits the run-ahead of this session together with others; None: a new account.
            later: inputs that were added after some cells of the journal, in order.

        Raises:
            InputError: An input, file or function cannot be used.
            SandboxError: There is no worker.
            ReplayDivergenceError: The replay of the journal differs from the first run.
        """
        described, callables = describe_functions(functions)
        inputs = Inputs(variables, files, later)
        inputs.check_apart_from(described)
        spec = SessionSpec(
            inputs=inputs,
            functions=described,
            limits=self._limits,
            output_fields=None if output_fields is None else tuple(output_fields),
            seed=seed,
            epoch=time.time() if epoch is None else epoch,
            allow_modules=self._allow_modules,
            layers=self.report.layers,
            plain=self._policy_off,
            ahead=self._ahead and not all(function.effects for function in described),
        )
        workers = WorkerFactory(self._zygote, spec, self._held_inputs, scope)
        session = Session(workers, self.thread_pool, callables, journal, ahead or self.ahead_account())
        try:
            session.warm()
        except BaseException:
            session.close()
            raise
        self._sessions.add(session)
        return session

    def ahead_account(self, width: int = DEFAULT_WIDTH) -> AheadAccount:
        """A new account for the run-ahead of some sessions, with this sandbox's ``parallel`` option.

        Args:
            width: most calls that are sent together, unless the sandbox has ``max_ahead``.
        """
        return AheadAccount(self._max_ahead or width, enabled=self._ahead)

    def thread_pool(self) -> Threads:
        """Threads for the async methods of sessions, separate from those of asyncio."""
        return self._threads

    def forget_parent(self) -> Any:
        """Start again in a forked child, without threads, sessions and held inputs."""
        inherited = (list(self._sessions), self._held_inputs, self._threads)
        self._sessions = weakref.WeakSet()
        self._threads = Threads("rlm-sandbox")
        self._held_inputs = HeldInputs(self._zygote)
        return inherited

    async def in_pool(self, work: Callable[[], _T]) -> _T:
        """Do blocking work (such as opening a session) without blocking the event loop."""
        return await asyncio.wrap_future(self.thread_pool().submit(work))

    def close(self) -> None:
        """Close all sessions. Can be called twice."""
        for session in list(self._sessions):
            session.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _wants(self, layer: str) -> bool:
        return self._only_layers is None or layer in self._only_layers


def _check_limits(limits: SandboxLimits) -> None:
    for name in ("cpu_seconds", "wall_seconds"):
        if not 0 < getattr(limits, name) < float("inf"):
            raise InputError(f"{name}={getattr(limits, name)} is no limit: give seconds above 0")
    for name in ("memory_bytes", "output_chars", "file_bytes", "frame_bytes"):
        value = getattr(limits, name)
        if value is not None and value < 1:
            raise InputError(f"{name}={value} is no limit: give a number above 0")
