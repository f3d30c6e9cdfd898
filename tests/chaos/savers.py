"""The savers of chaos runs: how a job opens one, and what the harness finds in its tables."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import Any


@contextmanager
def opened(location: str) -> Iterator[Any]:
    """A sync saver: of PostgreSQL for a URL, else of an SQLite file."""
    if location.startswith("postgresql:"):
        from langgraph.checkpoint.postgres import PostgresSaver as Saver
    else:
        from langgraph.checkpoint.sqlite import SqliteSaver as Saver
    with Saver.from_conn_string(location) as saver:
        saver.setup()
        yield saver


@asynccontextmanager
async def aopened(location: str) -> AsyncIterator[Any]:
    """An async one."""
    if location.startswith("postgresql:"):
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver as Saver
    else:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver as Saver
    async with Saver.from_conn_string(location) as saver:
        await saver.setup()
        yield saver


@dataclass(frozen=True)
class Saved:
    """A value in the saver's tables.

    Attributes:
        place: the table, the namespace and the checkpoint, for people.
        data: the value's bytes.
    """

    place: str
    data: bytes


def saved(location: str, tag: str) -> list[Saved]:
    """All that the saver's tables hold of a thread and a resumed run finds.

    With ``durability="async"`` writes may be stored before the checkpoint that they belong to. A process that dies
    between the two leaves writes that nobody finds.
    """
    if location.startswith("postgresql:"):
        return _of_postgres(location, tag)
    with closing(sqlite3.connect(location, timeout=30)) as db:
        if not db.execute("select 1 from sqlite_master where name = 'writes'").fetchone():
            return []
        rows = db.execute(
            "select 'writes ' || checkpoint_ns || ' ' || checkpoint_id, value "
            "from writes join checkpoints using (thread_id, checkpoint_ns, checkpoint_id) where thread_id like ?",
            (f"%{tag}",),
        ).fetchall()
        rows += db.execute(
            "select 'checkpoints ' || checkpoint_ns || ' ' || checkpoint_id, checkpoint "
            "from checkpoints where thread_id like ?",
            (f"%{tag}",),
        ).fetchall()
    return [Saved(*row) for row in rows]


_POSTGRES = (
    (
        "select 'writes ' || checkpoint_ns || ' ' || checkpoint_id, blob "
        "from checkpoint_writes join checkpoints using (thread_id, checkpoint_ns, checkpoint_id) where thread_id like %s"
    ),
    (
        "select 'blobs ' || checkpoint_ns || ' ' || channel || ' ' || version, blob "
        "from checkpoint_blobs where thread_id like %s"
    ),
    (
        "select 'checkpoints ' || checkpoint_ns || ' ' || checkpoint_id, convert_to(checkpoint::text, 'utf8') "
        "from checkpoints where thread_id like %s"
    ),
)


def _of_postgres(location: str, tag: str) -> list[Saved]:
    import psycopg

    with psycopg.connect(location) as db:
        if not db.execute("select to_regclass('checkpoint_writes')").fetchone()[0]:
            return []
        rows = [row for query in _POSTGRES for row in db.execute(query, (f"%{tag}",))]
    return [Saved(place, bytes(blob)) for place, blob in rows if blob is not None]


def end_lease(location: str) -> bool:
    """End the sessions that keep leases, as a proxy or an administrator does; whether there was one."""
    if not location.startswith("postgresql:"):
        return False
    import psycopg

    with psycopg.connect(location, autocommit=True) as db:
        ended = db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'rlm-adapters lease' and datname = current_database()"
        )
        return bool(ended.fetchall())


def delete(location: str) -> None:
    """Empty PostgreSQL's tables; an SQLite file lies in the folder of its run."""
    if location.startswith("postgresql:"):
        import psycopg

        with psycopg.connect(location) as db:
            db.execute("truncate checkpoints, checkpoint_blobs, checkpoint_writes")
