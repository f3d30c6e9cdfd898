"""The savers of chaos runs: how a job opens one, and what the harness finds in its tables."""

import json
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

    With ``durability="async"`` writes may be stored before the checkpoint that they belong to, and the checkpoints of a
    child run before that of its parent. A process that dies between the two leaves what nobody finds.
    """
    if location.startswith("postgresql:"):
        return _of_postgres(location, tag)
    with closing(sqlite3.connect(location, timeout=30)) as db:
        if not db.execute("select 1 from sqlite_master where name = 'writes'").fetchone():
            return []
        return _of_checkpoints(db, tag, "?", {"writes": "value", "checkpoints": "checkpoint"})[1]


def _of_postgres(location: str, tag: str) -> list[Saved]:
    import psycopg

    with psycopg.connect(location) as db:
        if not db.execute("select to_regclass('checkpoint_writes')").fetchone()[0]:
            return []
        columns = {"checkpoint_writes": "blob", "checkpoints": "convert_to(checkpoint::text, 'utf8')"}
        namespaces, rows = _of_checkpoints(db, tag, "%s", columns)
        query = "select checkpoint_ns, channel, version, blob from checkpoint_blobs where thread_id like %s"
        blobs = [
            Saved(f"checkpoint_blobs {ns} {channel} {version}", value)
            for ns, channel, version, value in db.execute(query, (f"%{tag}",))
            if ns in namespaces and value is not None
        ]
    return rows + blobs


def _of_checkpoints(db: Any, tag: str, mark: str, columns: dict[str, str]) -> tuple[set[str], list[Saved]]:
    """The values of tables whose rows belong to a checkpoint that a resumed run finds.

    Args:
        db: the connection.
        tag: how the thread's id ends.
        mark: the placeholder of this database.
        columns: by table.

    Returns:
        The namespaces of these checkpoints, and the values.
    """

    def rows(column: str, table: str) -> Any:
        query = f"select checkpoint_ns, checkpoint_id, {column} from {table} where thread_id like {mark}"
        return db.execute(query, (f"%{tag}",))

    metadata = {(ns, one): value for ns, one, value in rows("metadata", "checkpoints")}
    found = _found({one: value if isinstance(value, dict) else json.loads(value) for one, value in metadata.items()})
    return {ns for ns, _ in found}, [
        Saved(f"{table} {ns} {one}", bytes(value))
        for table, column in columns.items()
        for ns, one, value in rows(column, table)
        if (ns, one) in found and value is not None
    ]


def _found(checkpoints: dict[tuple[str, str], dict[str, Any]]) -> set[tuple[str, str]]:
    """Those of the checkpoints that a resumed run finds: the parents of a child run's are there too."""
    return {
        position
        for position, metadata in checkpoints.items()
        if all(parent in checkpoints for parent in (metadata.get("parents") or {}).items())
    }


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
