"""Leases: a thread is run by one call at a time, in all processes that share its checkpointer.

What holds a lease is what ends with its process, however it ends: a POSIX lock on one byte of a file beside the SQLite
database, a session's advisory lock in PostgreSQL. So nothing expires, and a process that stands still (SIGSTOP) keeps
what it holds. `InMemorySaver` lives in one process. Other savers get no lease: a server has a run queue of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters.effects import Steps, Wait, off_loop, sleep
from rlm_adapters.errors import InputError, ThreadBusyError
from rlm_adapters.forking import forget_in_children

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MultitaskStrategy: TypeAlias = Literal["reject", "enqueue"]
"""What a call does whose thread is being run by another call: LangGraph's server names it so."""

STRATEGIES: Final = ("reject", "enqueue", None)
_GRACE: Final = 0.5
"""Seconds that a call waits before it is rejected: one that was cancelled a moment ago is still cleaning up."""
_POLL: Final = (0.02, 0.5)
"""Seconds between two attempts: of the first, and at most."""
_CHECK_EVERY: Final = 5.0
"""Seconds after which a step looks whether PostgreSQL still holds the lease."""


def check_strategy(value: Any) -> MultitaskStrategy | None:
    """Check ``multitask_strategy=``.

    Raises:
        InputError: it is none of them.
    """
    if value in STRATEGIES:
        return value  # type: ignore[no-any-return]
    raise InputError(f'multitask_strategy={value!r:.80} is unknown: use "reject", "enqueue", or None for no lease')


class Lease:
    """The right to run a thread, until it is given back or this process ends.

    Args:
        place: that keeps it.
        name: of the thread there.
        thread: as the caller knows it.
    """

    def __init__(self, place: _Place, name: str, thread: str) -> None:
        self._place = place
        self._name = name
        self._thread = thread
        self._looked = time.monotonic()

    def due(self) -> bool:
        """Whether to `check` it."""
        return self._place.may_be_lost and time.monotonic() - self._looked > _CHECK_EVERY

    def check(self) -> None:
        """Look whether it is still held; may block.

        Raises:
            ThreadBusyError: it was lost with the connection, and another call has taken it.
        """
        self._looked = time.monotonic()
        if not self._place.holds(self._name):
            raise ThreadBusyError(
                f"thread {self._thread!r} was taken over by another call while the connection to its checkpointer's "
                "database was lost: this call ends here, the other one goes on"
            )

    def release(self) -> Steps[None]:
        """Give it back."""
        if self._place.blocks:
            yield off_loop(lambda: self._place.free(self._name))
        else:
            self._place.free(self._name)

    def release_soon(self) -> None:
        """Give it back without waiting for it on an event loop."""
        if self._place.blocks and _running_loop() is not None:
            threading.Thread(target=self._place.free, args=(self._name,), daemon=True, name="rlm-lease").start()
        else:
            self._place.free(self._name)


def leased(saver: Any, thread: str, strategy: MultitaskStrategy | None) -> Steps[Lease | None]:
    """Take the lease of a thread.

    Args:
        saver: that keeps the thread.
        thread: its id.
        strategy: what to do while another call has it; None: no lease.

    Returns:
        The lease; None: this saver has none, or none is wanted.

    Raises:
        ThreadBusyError: another call has it.
    """
    place = None if strategy is None else (yield from _place_of(saver))
    if place is None:
        return None
    name = hashlib.sha256(thread.encode("utf-8", "surrogatepass")).hexdigest()
    begun, pause = time.monotonic(), _POLL[0]
    while not (yield from _attempt(place, name)):
        if strategy == "reject" and time.monotonic() - begun > _GRACE:
            raise ThreadBusyError(
                f"thread {thread!r} is being run by another call, in this process or another one: wait until that one "
                "has ended, stop it, or have calls wait for each other with multitask_strategy='enqueue'"
            )
        yield sleep(pause)
        pause = min(2 * pause, _POLL[1])
    return Lease(place, name, thread)


def _attempt(place: _Place, name: str) -> Steps[bool]:
    if not place.blocks:
        return place.take(name)
    taken: bool = yield Wait(lambda: place.take(name), lambda: _not_lost(place, name))
    return taken


async def _not_lost(place: _Place, name: str) -> bool:
    """Take it in a thread; a call that is cancelled meanwhile gives it back."""
    work = asyncio.ensure_future(asyncio.to_thread(place.take, name))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(lambda done: threading.Thread(target=_undo, args=(place, name, done)).start())
        raise


def _undo(place: _Place, name: str, done: asyncio.Future[bool]) -> None:
    if not done.cancelled() and done.exception() is None and done.result():
        place.free(name)


# ------------------------------------------------------------------------------------------------ places


class _Place:
    """Where leases are kept. Exclusive in this process by a set of names, in others by what a subclass has."""

    blocks = True
    may_be_lost = False

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Take a lease, unless another call has it; may block for a round trip."""
        with self._lock:
            if name in self._held or not self._lock_for_others(name):
                return False
            self._held.add(name)
            return True

    def free(self, name: str) -> None:
        """Give a lease back."""
        with self._lock:
            if name in self._held:
                self._held.discard(name)
                self._unlock_for_others(name)
                if not self._held:
                    self._close()

    def holds(self, name: str) -> bool:
        """Whether a lease that was taken is still there."""
        return name in self._held

    def _lock_for_others(self, name: str) -> bool:  # noqa: ARG002 - of subclasses
        return True

    def _unlock_for_others(self, name: str) -> None:
        pass

    def _close(self) -> None:
        pass


class _InProcess(_Place):
    blocks = False


class _File(_Place):
    """A byte for each thread, in a file beside the database. A POSIX lock belongs to a process; no fork inherits it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = f"{path}-rlm-lock"
        self._file: int | None = None

    def _lock_for_others(self, name: str) -> bool:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _number(name, 62))
        except (BlockingIOError, PermissionError):
            if not self._held:
                self._close()
            return False
        return True

    def _unlock_for_others(self, name: str) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _number(name, 62))

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


_KEY: Final = "hashtextextended(coalesce(current_schema(), ''), %s)"
"""Number of an advisory lock: those of a database are shared by its schemas."""


class _Database(_Place):
    """Advisory locks of one session, which this process opens while it holds any."""

    may_be_lost = True

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._session: Any = None

    def holds(self, name: str) -> bool:
        """Whether it is still there; after a lost connection all are taken again, as far as they are free."""
        import psycopg  # noqa: PLC0415 - of an extra

        with self._lock:
            if name not in self._held:
                return False
            try:
                self._session.execute("select 1")
            except psycopg.Error:
                self._close()
                self._held = {one for one in self._held if self._lock_for_others(one)}
                if not self._held:
                    self._close()
            return name in self._held

    def _lock_for_others(self, name: str) -> bool:
        import psycopg  # noqa: PLC0415 - of an extra

        if self._session is None:
            self._session = psycopg.connect(self._conninfo, autocommit=True, application_name="rlm-adapters lease")
        try:
            row = self._session.execute(f"select pg_try_advisory_lock({_KEY})", [_number(name, 63)]).fetchone()
        except psycopg.Error:
            if not self._held:
                self._close()  # the next attempt begins anew
            raise
        if not row[0] and not self._held:
            self._close()
        return bool(row[0])

    def _unlock_for_others(self, name: str) -> None:
        import psycopg  # noqa: PLC0415 - of an extra

        if self._session is not None:
            with contextlib.suppress(psycopg.Error):  # else the session has ended, and its locks with it
                self._session.execute(f"select pg_advisory_unlock({_KEY})", [_number(name, 63)])

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _number(name: str, bits: int) -> int:
    return int(name, 16) % (1 << bits)


class _Places:
    """The places of this process by what they lock: several savers may be on one database."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Place] = {}
        self.of_savers: WeakKeyDictionary[Any, _Place | None] = WeakKeyDictionary()
        self._lock = threading.Lock()
        forget_in_children(self)

    def forget_parent(self) -> object:
        """In a forked copy of this process: the leases are the parent's."""
        inherited = (self._known, self.of_savers)
        self._known, self.of_savers = {}, WeakKeyDictionary()
        self._lock = threading.Lock()
        return inherited

    def get(self, key: Hashable, make: Callable[[], _Place]) -> _Place:
        """The place of a key, made at its first use."""
        with self._lock:
            if key not in self._known:
                self._known[key] = make()
            return self._known[key]


_PLACES: Final = _Places()


def _place_of(saver: Any) -> Steps[_Place | None]:
    """Where the leases of a saver's threads are; None for savers of other kinds."""
    if (kind := _kind(saver)) is None:
        return None
    if saver in _PLACES.of_savers:
        return _PLACES.of_savers[saver]
    place: _Place = _InProcess()
    if kind == "sqlite" and fcntl is not None:
        path: str | None = yield from _asked(saver, _sqlite_path, _sqlite_apath)
        if path is None:
            return None
        if path:  # else a database in memory
            real: str = yield off_loop(lambda: os.path.realpath(path))
            place = _PLACES.get(("file", real), lambda: _File(real))
    elif kind == "postgres":
        conninfo: str | None = yield from _asked(saver, _postgres_conninfo, _postgres_aconninfo)
        if conninfo is None:
            return None
        place = _PLACES.get(("postgres", conninfo), lambda: _Database(conninfo))
    return _PLACES.of_savers.setdefault(saver, place)


_KINDS: Final = {
    "langgraph.checkpoint.sqlite.SqliteSaver": "sqlite",
    "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver": "sqlite",
    "langgraph.checkpoint.postgres.PostgresSaver": "postgres",
    "langgraph.checkpoint.postgres.aio.AsyncPostgresSaver": "postgres",
}


def _kind(saver: Any) -> str | None:
    if type(saver) is InMemorySaver:  # the server's own one is of a class made of it
        return "memory"
    return next((_KINDS[name] for one in type(saver).__mro__ if (name := _name(one)) in _KINDS), None)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _asked(saver: Any, ask: Callable[[Any], Any], aask: Callable[[Any], Any]) -> Steps[Any]:
    """Ask the saver's connection, in its own form; an async saver is asked on its own loop.

    None where it cannot be asked: a sync call on the loop itself, which the saver refuses too.
    """
    loop = getattr(saver, "loop", None)
    if loop is None or not _name(type(saver)).split(".")[-1].startswith("Async"):
        return (yield off_loop(lambda: ask(saver)))

    def run() -> Any:
        if _running_loop() is loop:
            return None
        return asyncio.run_coroutine_threadsafe(aask(saver), loop).result()

    async def arun() -> Any:
        if asyncio.get_running_loop() is loop:
            return await aask(saver)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(aask(saver), loop))

    return (yield Wait(run, arun))


def _running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_SQLITE_FILE: Final = "select file from pragma_database_list where name = 'main'"


def _sqlite_path(saver: Any) -> str:
    with saver.lock:
        (path,) = saver.conn.execute(_SQLITE_FILE).fetchone()
    return path or ""


async def _sqlite_apath(saver: Any) -> str:
    await saver.setup()
    async with saver.lock, saver.conn.execute(_SQLITE_FILE) as cursor:
        (path,) = await cursor.fetchone()
    return path or ""


def _postgres_conninfo(saver: Any) -> str:
    if hasattr(saver.conn, "info"):
        return _conninfo_of(saver.conn)
    with saver.conn.connection() as connection:
        return _conninfo_of(connection)


async def _postgres_aconninfo(saver: Any) -> str:
    if hasattr(saver.conn, "info"):
        return _conninfo_of(saver.conn)
    async with saver.conn.connection() as connection:
        return _conninfo_of(connection)


def _conninfo_of(connection: Any) -> str:
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - of an extra

    secret = {"password": connection.info.password} if connection.info.password else {}
    return make_conninfo(connection.info.dsn, **secret)
