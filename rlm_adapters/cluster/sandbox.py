"""`RaySandbox`: where sessions on a cluster come from."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Self

from rlm_adapters.cluster.content import Puts
from rlm_adapters.cluster.host import SandboxHost
from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.orders import HostSettings
from rlm_adapters.cluster.pool import Placement, Pool
from rlm_adapters.cluster.session import RaySession
from rlm_adapters.cluster.settings import actor_options, check_address, check_counts, check_seconds
from rlm_adapters.effects import drive
from rlm_adapters.errors import SandboxError
from rlm_adapters.forking import forget_in_children
from rlm_adapters.sandbox.host.driving import describe_functions
from rlm_adapters.sandbox.host.executor import check_require
from rlm_adapters.sandbox.host.inputs import Inputs
from rlm_adapters.sandbox.host.runahead import DEFAULT_WIDTH, AheadAccount, Parallel, runs_ahead
from rlm_adapters.sandbox.host.threads import Threads
from rlm_adapters.sandbox.protocol.types import CellRecord, HostFunction, Isolation, LaterInputs, SandboxLimits


class RaySandbox:
    """Runs cells in sandboxes on the nodes of a Ray cluster. Thread-safe; give it as ``sandbox=``.

    Nothing is connected before the first session is opened. Keep it for as long as sessions are opened: its actors are
    this process's own, and end with it. docs/ray.md tells of sizes, of lost nodes and of what is sent where.

    Args:
        address: ``"host:port"`` or ``"ray://host:port"`` of the cluster; ``"local"``: one of this process on this
            machine; default: the cluster that this process is in, that ``RAY_ADDRESS`` names, or that runs here.
        actors: how many, each a process with a warm zygote; default: as many as there are nodes at the first use.
        sessions_per_actor: most sessions that an actor holds at once. When all places are taken, a session that waits
            gives way and is rebuilt later; when all of them run cells, the next one waits.
        num_cpus: that each actor reserves. What a node has of this, of ``memory`` and of ``resources`` bounds how many
            actors it gets.
        memory: bytes that each actor reserves.
        resources: of the cluster's own kinds, by name.
        scheduling_strategy: as Ray has it; ``"SPREAD"``: over all nodes.
        runtime_env: of the actors, as Ray has it: ``{"pip": ["rlm-adapters[ray]"]}`` for nodes without this package.
        limits: of every session.
        require: ``"os"`` refuses nodes on which the operating system does not confine the workers.
        allow_modules: as of `Sandbox`; they must be installed on the nodes.
        parallel: as of `Sandbox`.
        max_ahead: as of `Sandbox`.
        connect_seconds: in which the cluster must answer.
        start_seconds: in which a first actor must come to life.
        wait_seconds: that a cell waits for a place.

    Raises:
        InputError: an argument makes no sense.
        MissingExtraError: Ray is not installed.
    """

    _pool: Pool | None

    def __init__(
        self,
        *,
        address: str | None = None,
        actors: int | None = None,
        sessions_per_actor: int = 64,
        num_cpus: float = 1.0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        scheduling_strategy: Any = "SPREAD",
        runtime_env: Mapping[str, Any] | None = None,
        limits: SandboxLimits = SandboxLimits(),  # noqa: B008 - frozen
        require: Isolation | None = None,
        allow_modules: Sequence[str] = (),
        parallel: Parallel = "ahead",
        max_ahead: int | None = None,
        connect_seconds: float = 30.0,
        start_seconds: float = 120.0,
        wait_seconds: float = 600.0,
    ) -> None:
        check_address(address)
        check_counts(actors=actors, sessions_per_actor=sessions_per_actor, max_ahead=max_ahead)
        check_seconds(connect_seconds=connect_seconds, start_seconds=start_seconds, wait_seconds=wait_seconds)
        check_require(require)
        self._library = Library("RaySandbox")
        self._address = address
        self._connect_seconds = connect_seconds
        self._ahead = runs_ahead(parallel)
        self._max_ahead = max_ahead
        self._settings = HostSettings(
            limits=limits, require=require, allow_modules=tuple(allow_modules), ahead=self._ahead
        )
        self._placement = Placement(
            actors=actors,
            sessions_per_actor=sessions_per_actor,
            options=actor_options(num_cpus, memory, resources, scheduling_strategy, runtime_env),
            start_seconds=start_seconds,
            wait_seconds=wait_seconds,
        )
        self._begin_anew()
        forget_in_children(self)

    @property
    def limits(self) -> SandboxLimits:
        """Limits of every session."""
        return self._settings.limits

    @property
    def isolation(self) -> Isolation:
        """The level of every actor that is ready; connects and waits for the first one. Blocks.

        Raises:
            SandboxError: the cluster cannot be used.
        """
        hellos = drive(self._running_pool().hellos())
        return "os" if all(hello.isolation == "os" for hello in hellos) else "process"

    def sessions(self) -> tuple[tuple[str, int], ...]:
        """Of each actor that is ready: the id of its node, and how many sessions it holds."""
        pool = self._pool
        return () if pool is None else pool.sessions()

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
        ahead: AheadAccount | None = None,
        scope: Hashable | None = None,
        later: Sequence[LaterInputs] = (),
    ) -> RaySession:
        """Open a session on some node, with the journal replayed in it. Blocks until then.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable` of a file here.
            files: read-only files of the workspace by their path there: bytes, or the path of a file here.
            functions: what cells may call and the caller answers.
            output_fields: names that positional arguments of SUBMIT are bound to.
            seed: of the session's random numbers.
            epoch: instant, in seconds, at which its clock starts; None: now. A replay needs the same.
            journal: finished cells of an earlier session with the same inputs.
            ahead: counts and bounds the run-ahead of this session together with others; None: one of its own.
            scope: sessions of one scope in one actor share one copy of what they are given.
            later: inputs that came when some cells of the journal had been run, in order.

        Raises:
            InputError: an input, file or function cannot be offered.
            SandboxError: the cluster cannot be used, or has no place.
            ReplayDivergenceError: the journal does not rebuild what it did before.
        """
        described, _ = describe_functions(functions)
        inputs = Inputs(variables, files, later)
        inputs.check_apart_from(described)
        session = RaySession(
            self._running_pool(),
            self._puts,
            self.thread_pool,
            inputs,
            described,
            output_fields=output_fields,
            seed=seed,
            epoch=time.time() if epoch is None else epoch,
            journal=journal,
            ahead=ahead or self.ahead_account(),
            scope=scope,
            wall_seconds=self.limits.wall_seconds,
        )
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
        """Threads for what blocks (opening a session), apart from asyncio's own."""
        return self._threads

    def forget_parent(self) -> Any:
        """In a forked copy of the process: no actors and no sessions yet."""
        inherited: Any = (self._pool, self._puts, self._threads, list(self._sessions))
        self._begin_anew()
        return inherited

    def close(self) -> None:
        """Close all sessions and end the actors; harmless when done twice. The process stays in the cluster."""
        for session in list(self._sessions):
            session.close()
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            pool.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._pool = None
        self._puts = Puts(self._library)
        self._threads = Threads("rlm-ray")
        self._sessions: weakref.WeakSet[RaySession] = weakref.WeakSet()
        self._closed = False

    def _running_pool(self) -> Pool:
        with self._lock:
            if self._closed:
                raise SandboxError("the RaySandbox is closed: make another one")
            if self._pool is None:
                self._library.connect(self._address, self._connect_seconds)
                self._pool = Pool(self._library, self._placement, SandboxHost, self._settings)
            return self._pool
