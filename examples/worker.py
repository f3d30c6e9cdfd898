"""A worker that answers questions from a queue in PostgreSQL. Start as many as you like, on any machine.

    python examples/worker.py put "How many birds?" birds.txt    puts a question into the queue
    python examples/worker.py [--once]                           works; --once: until every question has an answer

The checkpoints of a run are in the same database, and its inputs in RLM_CONTENT_STORE, to which all workers need
access. You can kill any worker at any time: after some seconds the others continue its runs from the last save. The
queue gives a question to one worker. The lease of the thread (docs/storage.md), not the queue, guarantees that no two
workers run it. If the database is not available, workers wait for it.
"""

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import OperationalError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from rlm_adapters import ContentStore, ThreadBusyError, create_rlm_graph

DATABASE = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")
STORE = os.environ.get("RLM_CONTENT_STORE", "rlm-content")
AT_ONCE = int(os.environ.get("RUNS_AT_ONCE", "8"))
TAKEN_SECONDS = int(os.environ.get("TAKEN_SECONDS", "15"))
"""After this time without a sign of its worker, another worker can take a question. By the clock of the database."""

TABLE = """
create table if not exists rlm_questions (
    thread text primary key, question text not null, context text not null default '', answer text, error text,
    tries int not null default 0, put timestamptz not null default now(), taken_until timestamptz not null default now()
)"""
TAKE = """
update rlm_questions set taken_until = now() + make_interval(secs => %s), tries = tries + 1 where thread = (
    select thread from rlm_questions where answer is null and error is null and taken_until <= now()
    order by put limit 1 for update skip locked
) returning thread, question, context, tries"""
KEEP = "update rlm_questions set taken_until = now() + make_interval(secs => %s) where thread = any(%s)"
TRIES = 5
"""After this number of attempts the error is saved, because such a question could end all workers one by one."""


async def put(pool: AsyncConnectionPool, question: str, context: str) -> None:
    async with pool.connection() as db:
        await db.execute(
            "insert into rlm_questions (thread, question, context) values (%s, %s, %s)",
            [uuid.uuid4().hex, question, context],
        )


async def answer(graph: Any, pool: AsyncConnectionPool, row: dict[str, Any]) -> None:
    """Start a question, or continue it."""
    thread = {"configurable": {"thread_id": row["thread"]}}
    try:
        begun = (await graph.aget_state(thread)).values
        given = None if begun else {"query": row["question"], "context": row["context"]}
        result = await graph.ainvoke(given, thread)
        noted = (str(result["answer"]), None) if result["answer"] is not None else (None, str(result["error"]))
    except ThreadBusyError:
        return  # another worker still has it, and will save its answer
    except Exception as error:  # noqa: BLE001 - it is saved with its question
        if row["tries"] < TRIES:
            print(f"{row['thread']}: {type(error).__name__}: {error}", file=sys.stderr)
            return  # it is tried again later
        noted = (None, f"{type(error).__name__}: {error}")
    async with pool.connection() as db:
        await db.execute("update rlm_questions set answer = %s, error = %s where thread = %s", [*noted, row["thread"]])


async def work(pool: AsyncConnectionPool, *, once: bool) -> None:
    saver = AsyncPostgresSaver(pool)
    await saver.setup()
    graph = create_rlm_graph(
        ChatOpenAI(model="gpt-5"), ChatOpenAI(model="gpt-5-mini"), checkpointer=saver, store=ContentStore(STORE)
    )
    at_work: dict[asyncio.Task[None], str] = {}
    while True:
        left = True
        try:
            async with pool.connection() as db:
                await db.execute(KEEP, [TAKEN_SECONDS, list(at_work.values())])
                while len(at_work) < AT_ONCE and (row := await (await db.execute(TAKE, [TAKEN_SECONDS])).fetchone()):
                    at_work[asyncio.create_task(answer(graph, pool, row))] = row["thread"]
                found = await db.execute("select 1 from rlm_questions where answer is null and error is null limit 1")
                left = await found.fetchone() is not None
        except OperationalError as error:
            print(f"the database is away: {error}", file=sys.stderr)
        if once and not left:
            break
        await asyncio.wait({*at_work, asyncio.create_task(asyncio.sleep(0.5))}, return_when=asyncio.FIRST_COMPLETED)
        for done in [task for task in at_work if task.done()]:
            del at_work[done]
            if not isinstance(
                done.exception(), OperationalError
            ):  # otherwise the answer is in the checkpoint, and the next worker saves it
                done.result()
    graph.close()


async def main(arguments: list[str]) -> None:
    kwargs = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    check = AsyncConnectionPool.check_connection  # because a restart of the server ends all connections
    async with AsyncConnectionPool(DATABASE, max_size=min(AT_ONCE, 10), kwargs=kwargs, check=check) as pool:
        async with pool.connection() as db:
            await db.execute("select pg_advisory_lock(1)")  # for two workers that start at the same time
            await db.execute(TABLE)
            await db.execute("select pg_advisory_unlock(1)")
        if arguments[:1] == ["put"]:
            text = await asyncio.to_thread(Path(arguments[2]).read_text) if len(arguments) > 2 else ""
            await put(pool, arguments[1], text)
        else:
            await work(pool, once="--once" in arguments)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
