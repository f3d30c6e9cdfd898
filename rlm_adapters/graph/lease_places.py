"""Where leases are kept: next to the threads of the checkpointer.

A lease is a lock that ends with its process, however the process ends: a POSIX lock on one byte of a file next to the
SQLite database, or an advisory lock of a session in PostgreSQL. So leases do not expire, and a paused process (SIGSTOP)
keeps them. `InMemorySaver` exists in one process only. Other checkpointers have no leases; a server has its own run
queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Final
from weakref import WeakKeyDictionary

from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters.effects import Steps, Wait, off_loop
from rlm_adapters.forking import forget_in_children

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Place:
    """A place for leases. A set of names makes them exclusive in this process, a subclass in other ones."""

    blocks = True
    may_be_lost = False

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Take a lease, unless another call has it. May block for a round trip."""
        with self._lock:
            if name in self._held or not self._lock_for_others(name):
                return False
            self._held.add(name)
            return True

    def free(self, name: str) -> None:
        """Release a lease."""
        with self._lock:
            if name in self._held:
                self._held.discard(name)
                self._unlock_for_others(name)
                if not self._held:
                    self._close()

    def holds(self, name: str) -> bool:
        """Whether a taken lease still exists."""
        return name in self._held

    def _lock_for_others(self, name: str) -> bool:  # noqa: ARG002 - of subclasses
        return True

    def _unlock_for_others(self, name: str) -> None:
        pass

    def _close(self) -> None:
        pass


class _InProcess(Place):
    blocks = False


class _File(Place):
    """A byte for each thread, in a file next to the database. Forks do not inherit a POSIX lock."""

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


_TAKE: Final = """
    select key, pg_try_advisory_lock(key) from hashtextextended(coalesce(current_schema(), ''), %s) as key
"""
"""Try to lock a thread. The number includes the schema, because all schemas of a database share advisory locks."""

_GUARD: Final = 0x5F3759DF_2545F491
"""Combined with the number of a thread's lease, this gives the number of its guard."""

_DEAD_AFTER: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Seconds, seconds and count, for both ends. A machine that disappears keeps its leases for 25 seconds, not hours."""

_SETTLED_AFTER: Final = 2.0
"""Seconds in which the locks of an ended session become free, and the writes end that it allowed."""
_PAUSE: Final = 0.02

_SETTINGS: Final = {"idle_session_timeout": 0, **{f"tcp_{name}": value for name, value in _DEAD_AFTER.items()}}
"""Settings of the session in the server. A session that only holds leases is always idle."""


class DatabasePlace(Place):
    """Advisory locks of one session. The session is open while this process holds a lease.

    Attributes:
        token: number of a lock that only the current session holds; see `rlm_adapters.graph.fencing`.
    """

    may_be_lost = True

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self._conninfo = conninfo
        self._session: Any = None
        self._keys: dict[str, int] = {}
        self.token = 0

    def guard_of(self, name: str) -> int:
        """Number of the shared lock of all transactions that write to a leased thread."""
        return self._keys[name] ^ _GUARD

    def holds(self, name: str) -> bool:
        """Whether a lease still exists. After a lost connection, all leases that are free are taken again."""
        with self._lock:
            if name not in self._held:
                return False
            if not self._lives():
                self._take_again()
            return name in self._held

    def _lives(self) -> bool:
        """Whether there is a session, and the server answers it."""
        import psycopg  # noqa: PLC0415 - of an extra

        try:
            if self._session is not None:
                self._session.execute("select 1")
                return True
        except psycopg.Error:
            self._close()
        return False

    def _take_again(self) -> None:
        """Take the leases of a session that has ended, as far as they are free; while there is no server all stay.

        The ended session can keep its locks for a moment, and so can a write of this process that began before. So a
        lease counts as taken by another call only if it is still not free after a while. Whatever has ended the
        session may end the next one too.
        """
        import psycopg  # noqa: PLC0415 - of an extra

        until = time.monotonic() + _SETTLED_AFTER
        again: set[str] = set()
        while True:
            last = time.monotonic() > until
            try:
                again |= {one for one in self._held - again if self._try_lock(one)}
            except psycopg.Error:
                self._close()  # and with it what was taken again: the next attempt begins anew
                again.clear()
                if last:
                    raise
            else:
                if last or again == self._held:
                    break
            time.sleep(_PAUSE)
        self._held = again
        if not self._held:
            self._close()

    def _lock_for_others(self, name: str) -> bool:
        import psycopg  # noqa: PLC0415 - of an extra

        try:
            return self._try_lock(name)
        except psycopg.Error:
            if not self._held or self._lives():
                raise
        self._take_again()  # else nothing could be taken until the next step of a call that waits for a model
        return self._try_lock(name)

    def _try_lock(self, name: str) -> bool:
        import psycopg  # noqa: PLC0415 - of an extra

        if self._session is None:
            self._session, self.token = _session(self._conninfo)
        try:
            key, taken = self._session.execute(_TAKE, [_number(name, 63)]).fetchone()
            if taken and not self._nobody_writes(key):
                self._session.execute("select pg_advisory_unlock(%s)", [key])
                taken = False
        except psycopg.Error:
            if not self._held:
                self._close()  # the next attempt opens a new session
            raise
        if taken:
            self._keys[name] = key
        elif not self._held:
            self._close()
        return bool(taken)

    def _nobody_writes(self, key: int) -> bool:
        """Whether no transaction of an earlier owner, whose session has ended, is still running."""
        (free,) = self._session.execute("select pg_try_advisory_xact_lock(%s)", [key ^ _GUARD]).fetchone()
        return bool(free)

    def _unlock_for_others(self, name: str) -> None:
        import psycopg  # noqa: PLC0415 - of an extra

        if self._session is not None:
            with contextlib.suppress(psycopg.Error):  # on an error the session and its locks have ended
                self._session.execute("select pg_advisory_unlock(%s)", [self._keys.pop(name, 0)])

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _session(conninfo: str) -> tuple[Any, int]:
    """Open a session for leases, with its token. Settings in the conninfo are not changed."""
    import psycopg  # noqa: PLC0415 - of an extra
    from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415

    options: dict[str, Any] = {"connect_timeout": 10, "tcp_user_timeout": 25_000, **_DEAD_AFTER}
    options |= conninfo_to_dict(conninfo)
    options["application_name"] = "rlm-adapters lease"
    session = psycopg.connect(make_conninfo(**options), autocommit=True)
    try:
        for name, value in _SETTINGS.items():
            session.execute(
                "select set_config(name, %s, false) from pg_settings where name = %s and source <> 'client'",
                [str(value), name],
            )
        token = secrets.randbits(63)
        session.execute("select pg_advisory_lock(%s)", [token])
    except BaseException:
        session.close()
        raise
    return session, token


def _number(name: str, bits: int) -> int:
    return int(name, 16) % (1 << bits)


class _Places:
    """The places of this process, by what they lock. Several checkpointers may use one database."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Place] = {}
        self.of_savers: WeakKeyDictionary[Any, Place | None] = WeakKeyDictionary()
        self._lock = threading.Lock()
        forget_in_children(self)

    def forget_parent(self) -> object:
        """Start again in a forked child: the leases belong to the parent."""
        inherited = (self._known, self.of_savers)
        self._known, self.of_savers = {}, WeakKeyDictionary()
        self._lock = threading.Lock()
        return inherited

    def get(self, key: Hashable, make: Callable[[], Place]) -> Place:
        """The place of a key. It is made at the first use."""
        with self._lock:
            if key not in self._known:
                self._known[key] = make()
            return self._known[key]


_PLACES: Final = _Places()


def place_of(saver: Any) -> Steps[Place | None]:
    """The place of a checkpointer's leases; None for checkpointers of other kinds."""
    if (kind := _kind(saver)) is None:
        return None
    if saver in _PLACES.of_savers:
        return _PLACES.of_savers[saver]
    place: Place = _InProcess()
    if kind == "sqlite" and fcntl is not None:
        path: str | None = yield from _asked(saver, _sqlite_path, _sqlite_apath)
        if path is None:
            return None
        if path:  # no path: a database in memory
            real: str = yield off_loop(lambda: os.path.realpath(path))
            place = _PLACES.get(("file", real), lambda: _File(real))
    elif kind == "postgres":
        conninfo: str | None = yield from _asked(saver, _postgres_conninfo, _postgres_aconninfo)
        if conninfo is None:
            return None
        place = _PLACES.get(("postgres", conninfo), lambda: DatabasePlace(conninfo))
    return _PLACES.of_savers.setdefault(saver, place)


_KINDS: Final = {
    "langgraph.checkpoint.sqlite.SqliteSaver": "sqlite",
    "langgraph.checkpoint.sqlite.aio.AsyncSqliteSaver": "sqlite",
    "langgraph.checkpoint.postgres.PostgresSaver": "postgres",
    "langgraph.checkpoint.postgres.aio.AsyncPostgresSaver": "postgres",
}


def _kind(saver: Any) -> str | None:
    if type(saver) is InMemorySaver:  # the server uses a subclass
        return "memory"
    return _KINDS.get(_known_name(saver))


def _known_name(saver: Any) -> str:
    """Name of LangGraph's class that the saver's is made of; empty: of none."""
    names = (f"{one.__module__}.{one.__qualname__}" for one in type(saver).__mro__)
    return next((name for name in names if name in _KINDS), "")


def _asked(saver: Any, ask: Callable[[Any], Any], aask: Callable[[Any], Any]) -> Steps[Any]:
    """Query the checkpointer's connection, sync or async. An async checkpointer is queried on its own event loop.

    None if this is not possible: in a sync call on that loop, which the checkpointer refuses, too.
    """
    if ".aio." not in _known_name(saver):
        return (yield off_loop(lambda: ask(saver)))
    loop = saver.loop

    def run() -> Any:
        if running_loop() is loop:
            return None
        return asyncio.run_coroutine_threadsafe(aask(saver), loop).result()

    async def arun() -> Any:
        if asyncio.get_running_loop() is loop:
            return await aask(saver)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(aask(saver), loop))

    return (yield Wait(run, arun))


def running_loop() -> Any:
    """The event loop of this thread; None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_SQLITE_FILE: Final = "select file from pragma_database_list where name = 'main'"


def _sqlite_path(saver: Any) -> str:
    with saver.lock:
        saver.setup()  # before calls use copies of it, see `rlm_adapters.graph.clocks`
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
