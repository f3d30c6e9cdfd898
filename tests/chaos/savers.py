"""The savers of chaos runs: how a job opens one, and what the harness finds in its tables."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
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


def saved_bytes(location: str, tag: str) -> bytes:
    """All that the saver's tables hold of a thread and a resumed run finds, in one piece.

    With ``durability="async"`` writes may be stored before the checkpoint that they belong to. A process that dies
    between the two leaves writes that nobody finds.
    """
    if location.startswith("postgresql:"):
        return _of_postgres(location, tag)
    with closing(sqlite3.connect(location, timeout=30)) as db:
        if not db.execute("select 1 from sqlite_master where name = 'writes'").fetchone():
            return b""
        rows = db.execute(
            "select value from writes join checkpoints using (thread_id, checkpoint_ns, checkpoint_id) "
            "where thread_id like ?",
            (f"%{tag}",),
        ).fetchall()
        rows += db.execute("select checkpoint from checkpoints where thread_id like ?", (f"%{tag}",)).fetchall()
    return b"\n".join(row[0] for row in rows)


def _of_postgres(location: str, tag: str) -> bytes:
    import psycopg

    with psycopg.connect(location) as db:
        if not db.execute("select to_regclass('checkpoint_writes')").fetchone()[0]:
            return b""
        found = []
        for table, column in (
            ("checkpoint_writes", "blob"),
            ("checkpoint_blobs", "blob"),
            ("checkpoints", "checkpoint"),
        ):
            value = f"convert_to({column}::text, 'utf8')" if table == "checkpoints" else column
            found_by = "join checkpoints using (thread_id, checkpoint_ns, checkpoint_id)"
            joined = f"{table} {found_by}" if table == "checkpoint_writes" else table
            rows = db.execute(f"select {value} from {joined} where thread_id like %s", (f"%{tag}",))
            found += [bytes(row[0]) for row in rows if row[0] is not None]
    return b"\n".join(found)


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
