"""All use of Ray. Ray has few types, so its objects are `Any`, but only in this module.

A connection belongs to the whole process, because Ray allows only one cluster per process. If ``ray.init`` was called
before, that cluster is used.
"""

from __future__ import annotations

import importlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from rlm_adapters.errors import InputError, MissingExtraError, RLMError, SandboxError

LOCAL: Final = "local"
AUTO: Final = "auto"
_CLIENT: Final = "ray://"
_OF_ACTORS: Final = {"max_concurrency": 1_000_000, "max_restarts": 0, "max_task_retries": 0}
_LOCAL_SECONDS: Final = 180.0  # for a cluster that is started: on a busy machine it takes half a minute


class LostError(SandboxError):
    """An actor was lost, perhaps with its node."""


class StartError(SandboxError):
    """An actor could not be made on any node. The next one would fail, too."""


class ClusterError(SandboxError):
    """The cluster cannot be reached."""


class Library:
    """The functions of Ray that this package uses.

    Args:
        needed_for: what needs Ray, for the message.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, needed_for: str) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise MissingExtraError(f'{needed_for} needs Ray: pip install "rlm-adapters[ray]"') from None
        self._ray = ray
        self._connected_in: int | None = None
        self._classes: dict[type, Any] = {}

    def connect(self, address: str | None, seconds: float) -> None:
        """Connect to a cluster. Can be called twice. Blocks.

        Args:
            address: ``host:port``, ``ray://host:port``, ``"local"`` for a new cluster on this machine, None or
                ``"auto"`` for the cluster of this process, the one in ``RAY_ADDRESS``, or one that runs on this
                machine.
            seconds: time limit.

        Raises:
            InputError: this process is already in another cluster, or the address is not valid.
            ClusterError: there is no cluster, or it does not answer in time.
            SandboxError: the process was connected before it was forked.
        """
        if self._connected_in not in (None, os.getpid()):
            raise SandboxError(
                "Ray was connected before this process was forked, and cannot be used in the child: use the "
                "RaySandbox for the first time after the fork"
            )
        if not self._ray.is_initialized():
            self._init(address, seconds)
        elif address not in (None, AUTO, LOCAL) and not self._is_here(str(address)):
            raise InputError(
                f"address={address!r}: this process is in the cluster {self._address()!r} already: give that one, "
                "or none"
            )
        self._connected_in = os.getpid()

    def put(self, value: object) -> Any:
        """Put a value into the object store.

        Raises:
            SandboxError: it does not fit.
        """
        try:
            return self._ray.put(value)
        except Exception as error:  # noqa: BLE001 - one of ours is raised in its place
            raise self.translated(error) from None

    def nodes(self) -> list[str]:
        """Ids of the running nodes."""
        return [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]

    def free(self) -> Mapping[str, float]:
        """Unused resources."""
        return dict(self._ray.available_resources())

    def actor(self, cls: type, options: Mapping[str, Any], *args: object, **named: object) -> Any:
        """Start a new actor, and return its handle at once. Blocks for a short time.

        It is never restarted, and no call of it is made again: what it held is lost with it, and whoever made it knows
        how to go on. Its methods take as many calls at once as there are.

        Raises:
            InputError: Ray refuses the options.
        """
        try:
            return self._remote(cls).options(**{**_OF_ACTORS, **options}).remote(*args, **named)
        except (TypeError, ValueError) as error:
            raise InputError(f"Ray refuses the options of the actors: {error}") from None

    def ask(self, actor: Any, method: str, *args: object) -> Future[Any]:
        """Call a method of an actor.

        Returns:
            A separate future: cancelling it or setting its exception does not affect the call.
        """
        future: Future[Any] = Future()
        try:
            asked = getattr(actor, method).remote(*args).future()
        except Exception as error:  # noqa: BLE001 - carried to whoever waits
            future.set_exception(self.translated(error))
            return future
        asked.add_done_callback(lambda done: self._settle(future, done))
        return future

    def tell(self, actor: Any, method: str, *args: object) -> None:
        """Call a method of an actor without waiting for its end. The actor may not exist."""
        try:
            getattr(actor, method).remote(*args)
        except Exception:  # noqa: BLE001 - it is gone
            return

    def kill(self, actor: Any) -> None:
        """End an actor's process, if it still exists."""
        try:
            self._ray.kill(actor)
        except Exception:  # noqa: BLE001 - it is gone, or the cluster is
            return

    def beside_this_process(self) -> dict[str, Any]:
        """Options of an actor on the node of this process, or on another one if that node takes none.

        It reserves a little memory, because Ray asks a random node to place an actor that reserves nothing. A node that
        has just joined does not know this one yet, and would keep the actor.
        """
        strategies: Any = importlib.import_module("ray.util.scheduling_strategies")
        where = strategies.NodeAffinitySchedulingStrategy(node_id=self.node(), soft=True)
        return {"num_cpus": 0, "memory": 1 << 20, "scheduling_strategy": where}

    def node(self) -> str:
        """The id of the node on which this process is."""
        return str(self._ray.get_runtime_context().get_node_id())

    def me(self) -> str:
        """Id of the actor that this process is; empty: it is none."""
        return str(self._ray.get_runtime_context().get_actor_id() or "")

    def is_lost(self, error: BaseException) -> bool:
        """In an actor: whether an object is missing because the object store has lost it."""
        kinds = self._ray.exceptions
        return isinstance(error, kinds.ObjectLostError | kinds.ObjectFetchTimedOutError)

    def translated(self, error: BaseException) -> BaseException:
        """Convert an error of Ray to an error of this package that says what to do."""
        kinds = self._ray.exceptions
        if isinstance(error, kinds.RayTaskError):
            cause = getattr(error, "cause", None)
            if isinstance(cause, RLMError):
                return cause
            return SandboxError(f"the sandbox on a node failed: {type(cause).__name__}: {cause}")
        if isinstance(error, kinds.RayActorError) and getattr(error, "actor_init_failed", False):
            return StartError(_why_not_made(str(error)))
        if isinstance(error, kinds.RuntimeEnvSetupError):
            return StartError(f"the runtime_env of the actors cannot be made: {_last_line(str(error))}")
        if isinstance(error, kinds.ActorUnschedulableError):
            return StartError(f"no node can ever take an actor: {_last_line(str(error))}")
        if isinstance(
            error,
            kinds.RayActorError
            | kinds.WorkerCrashedError
            | kinds.NodeDiedError
            | kinds.ObjectLostError
            | kinds.TaskCancelledError
            | kinds.OutOfMemoryError,
        ):
            return LostError(f"an actor was lost: {_first_line(str(error))}")
        if isinstance(error, kinds.ObjectStoreFullError | kinds.OutOfDiskError):
            return SandboxError(
                "the object store of this node is full: give the node more (ray start --object-store-memory), or "
                "use smaller inputs"
            )
        if isinstance(error, kinds.RayError | ConnectionError):
            return ClusterError(f"the cluster does not answer: {_first_line(str(error))}")
        return error

    def _settle(self, future: Future[Any], done: Future[Any]) -> None:
        if done.cancelled():
            error: BaseException | None = LostError("an actor was lost: the call was cancelled")
        else:
            error = done.exception()
        try:
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(self.translated(error))
        except Exception:  # noqa: BLE001 - it was given up, or failed, meanwhile
            return

    def _init(self, address: str | None, seconds: float) -> None:
        given = None if address in (None, AUTO) else address
        where = given or os.environ.get("RAY_ADDRESS") or AUTO
        if where not in (AUTO, LOCAL):
            _check_reachable(where, seconds)
        local = where == LOCAL
        quiet = {} if where.startswith(_CLIENT) else {"log_to_driver": False, "configure_logging": False}
        if local:
            quiet["include_dashboard"] = False

        def join() -> None:
            self._ray.init(address=where, **quiet)

        try:
            _within(join, max(seconds, _LOCAL_SECONDS) if local else seconds, stay=local)
        except TimeoutError:
            raise ClusterError(
                f"the cluster at {where} did not accept this process within {seconds:g} s: look at ray status there"
            ) from None
        except Exception as error:  # noqa: BLE001 - one of ours is raised in its place
            if where == AUTO:
                raise ClusterError(
                    'no Ray cluster runs here: give its address ("host:port", "ray://host:port"), set RAY_ADDRESS, '
                    'or start one (ray start --head; address="local" for one of this process)'
                ) from None
            raise ClusterError(f"the cluster at {where} cannot be joined: {_first_line(str(error))}") from None

    def _remote(self, cls: type) -> Any:
        """The class as a Ray actor class. It is sent to the cluster once."""
        if cls not in self._classes:
            self._classes[cls] = self._ray.remote(cls)
        return self._classes[cls]

    def _address(self) -> str:
        try:
            return str(self._ray.get_runtime_context().gcs_address)
        except Exception:  # noqa: BLE001 - a client has none
            return "of its Ray client"

    def _is_here(self, address: str) -> bool:
        return address.startswith(_CLIENT) or _host_port(address) == _host_port(self._address())


def _check_reachable(address: str, seconds: float) -> None:
    """Check that the cluster can be reached, because Ray tries for more than a minute and then ends the process."""
    host, port = _host_port(address)
    if not host or not port:
        raise InputError(f'address={address!r}: give "host:port" or "ray://host:port", or "local"')
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise ClusterError(
            f"the cluster at {address} cannot be reached within {seconds:g} s ({reason}): check the address, and "
            "whether it runs (ray status)"
        ) from None


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() else 0


def _within(work: Callable[[], None], seconds: float, *, stay: bool = False) -> None:
    """Do work in a thread, and wait for it for so many seconds.

    With ``stay`` the thread stays until this process ends: Linux kills the processes of a local cluster when the thread
    that started them ends, because Ray asks for it (``PR_SET_PDEATHSIG``).
    """
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            future.set_exception(error)
        else:
            future.set_result(None)
            if stay:
                threading.Event().wait()

    threading.Thread(target=run, daemon=True, name="rlm-ray-connect").start()
    future.result(seconds)


def _why_not_made(text: str) -> str:
    """Why an actor could not be made in its process."""
    last = _last_line(text)
    missing = "rlm_adapters" in text and ("ModuleNotFoundError" in text or "failed to be imported" in text)
    if missing:
        return (
            "the nodes of the cluster have no rlm-adapters: install the same version there, or give "
            'runtime_env={"pip": ["rlm-adapters[ray]"]}'
        )
    _, _, said = last.partition(": ")
    return said if "Error: " in last and said else last


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason is known")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason is known")
