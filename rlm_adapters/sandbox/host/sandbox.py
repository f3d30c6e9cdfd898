"""The sandbox: where sessions come from."""

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
    """What confines the workers on this machine, found by trying.

    Attributes:
        level: ``os`` when all layers hold, else ``process``.
        layers: those that hold, of rlimits, landlock and seccomp.
        notes: why others do not.
    """

    level: Isolation
    layers: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Sandbox:
    """Runs untrusted Python in confined worker processes, one per session. Thread-safe.

    Keep it for as long as sessions are opened: they start in milliseconds from a process that all sandboxes of
    this host share, and that ends with the last of them.

    Args:
        limits: limits of every session.
        require: ``"os"`` refuses a machine on which the operating system does not confine the workers.
        allow_modules: real modules that cells may import besides the sandbox's own facades (``["numpy"]``). This
            gives up the language policy for them: whatever such a module can reach, a cell can reach, up to what
            the operating system's layers leave.
        parallel: ``"ahead"``: while a cell waits for an LM call, the calls that it will make later are found and
            offered together with it (``HostCall.ahead``; see `runahead`). ``"off"``: one after the other.
        max_ahead: most calls that go out together; default: what `ahead_account` is asked for.

    Raises:
        InputError: A limit makes no sense.
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
        """The level that was achieved on this machine."""
        return self.report.level

    @property
    def report(self) -> IsolationReport:
        """What confines the workers, and why no more does."""
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
        """Open a session; its worker is running when this returns, the journal replayed in it.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable`, which hands over a file's content.
            files: read-only files of the workspace by their path there: bytes, or the path of a file here.
            functions: what cells may call: callables by name for `Session.run`, or descriptions for a host that
                answers by `Session.start` and `Session.resume`.
            output_fields: names that positional arguments of SUBMIT are bound to.
            seed: of the session's random numbers.
            epoch: instant, in seconds, at which its clock starts; None: now. A replay needs the same.
            journal: finished cells of an earlier session with the same inputs, run again with their answers.
            scope: sessions of one scope (a run and its children) with the same big texts share one copy of them.
            ahead: counts and bounds the run-ahead of this session together with others; None: one of its own.
            later: inputs that came when some cells of the journal had been run, in order.

        Raises:
            InputError: An input, file or function cannot be offered.
            SandboxError: No worker can be had.
            ReplayDivergenceError: The journal does not rebuild what it did before.
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
        """A new account for the run-ahead of some sessions, as this sandbox was told to run ahead.

        Args:
            width: most calls that go out together, unless the sandbox was given ``max_ahead``.
        """
        return AheadAccount(self._max_ahead or width, enabled=self._ahead)

    def thread_pool(self) -> Threads:
        """Threads for the asynchronous forms of the sessions' methods, apart from asyncio's own."""
        return self._threads

    def forget_parent(self) -> Any:
        """In a forked copy of the host: no threads, no sessions, no held inputs yet."""
        inherited = (list(self._sessions), self._held_inputs, self._threads)
        self._sessions = weakref.WeakSet()
        self._threads = Threads("rlm-sandbox")
        self._held_inputs = HeldInputs(self._zygote)
        return inherited

    async def in_pool(self, work: Callable[[], _T]) -> _T:
        """Do something that blocks (opening a session, say) without blocking the event loop."""
        return await asyncio.wrap_future(self.thread_pool().submit(work))

    def close(self) -> None:
        """Close all sessions; harmless when done twice."""
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
