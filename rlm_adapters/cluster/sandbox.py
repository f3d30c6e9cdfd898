"""`RaySandbox`: the executor that opens sessions on a cluster."""

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

    It connects when the first session is opened. Keep it as long as you open sessions: its actors belong to this
    process, and end with it. See docs/ray.md for sizes, lost nodes, and what is sent where.

    Args:
        address: ``"host:port"`` or ``"ray://host:port"`` of the cluster; ``"local"``: a new cluster of this process on
            this machine; default: the cluster of this process, the one in ``RAY_ADDRESS``, or one that runs on this
            machine.
        actors: number of actors, each a process with a zygote; default: the number of nodes at the first use.
        sessions_per_actor: most sessions in an actor at once. If all places are taken, a waiting session loses its
            place and is rebuilt later. If all sessions run cells, the next one waits.
        num_cpus: CPUs that each actor reserves. This, ``memory`` and ``resources`` limit the number of actors on a
            node.
        memory: bytes that each actor reserves.
        resources: other resources of the cluster, by name.
        scheduling_strategy: Ray's option; ``"SPREAD"``: over all nodes.
        runtime_env: Ray's option for the actors: ``{"pip": ["rlm-adapters[ray]"]}`` for nodes without this package.
        limits: limits of every session.
        require: ``"os"``: refuse nodes whose operating system does not confine the workers.
        allow_modules: as in `Sandbox`. The modules must be installed on the nodes.
        parallel: as in `Sandbox`.
        max_ahead: as in `Sandbox`.
        connect_seconds: time limit for the connection to the cluster.
        start_seconds: time limit for the start of the first actor.
        wait_seconds: time limit of a cell that waits for a place.

    Raises:
        InputError: an argument is wrong.
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
        """The isolation level of the ready actors. Connects, and waits for the first actor. Blocks.

        Raises:
            SandboxError: the cluster cannot be used.
        """
        hellos = drive(self._running_pool().hellos())
        return "os" if all(hello.isolation == "os" for hello in hellos) else "process"

    def sessions(self) -> tuple[tuple[str, int], ...]:
        """The node id and the number of sessions of each ready actor."""
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
        """Open a session on a node, and replay the journal in it. Blocks.

        Args:
            variables: inputs by name: JSON types, bytes, or `FileVariable` of a local file.
            files: read-only files of the workspace by their path there: bytes, or the path of a local file.
            functions: functions that cells can call and the caller answers.
            output_fields: names for the positional arguments of SUBMIT.
            seed: seed of the session's random numbers.
            epoch: start time of its clock, in seconds; None: now. A replay needs the same time.
            journal: finished cells of an earlier session with the same inputs.
            ahead: counts and limits the run-ahead of this session together with others; None: a new account.
            scope: sessions of one scope in one actor share one copy of their inputs.
            later: inputs that were added after some cells of the journal, in order.

        Raises:
            InputError: an input, file or function cannot be used.
            SandboxError: the cluster cannot be used, or has no place.
            ReplayDivergenceError: the replay of the journal differs from the first run.
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
        """A new account for the run-ahead of some sessions, with this sandbox's ``parallel`` option.

        Args:
            width: most calls that are sent together, unless the sandbox has ``max_ahead``.
        """
        return AheadAccount(self._max_ahead or width, enabled=self._ahead)

    def thread_pool(self) -> Threads:
        """Threads for blocking work (opening a session), separate from those of asyncio."""
        return self._threads

    def forget_parent(self) -> Any:
        """Start again in a forked child, without actors and sessions."""
        inherited: Any = (self._pool, self._puts, self._threads, list(self._sessions))
        self._begin_anew()
        return inherited

    def close(self) -> None:
        """Close all sessions and end the actors. Can be called twice. The process stays in the cluster."""
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
                raise SandboxError("the RaySandbox is closed: make a new one")
            if self._pool is None:
                self._library.connect(self._address, self._connect_seconds)
                self._pool = Pool(self._library, self._placement, SandboxHost, self._settings)
            return self._pool
