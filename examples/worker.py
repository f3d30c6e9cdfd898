"""A worker that answers questions from a queue in PostgreSQL. Start as many as you like, on any machine.

    python examples/worker.py put "How many birds?" birds.txt    puts a question into the queue
    python examples/worker.py [--once]                           works; --once: until every question has an answer

A run's checkpoints lie in the same database, its inputs in RLM_CONTENT_STORE, which all workers must reach. Kill any
worker at any time: after some seconds the others go on with its runs where they were saved. The queue says whose turn
it is; that no thread is run by two is guaranteed by the lease (docs/storage.md), not by the queue.
"""

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from rlm_adapters import ContentStore, ThreadBusyError, create_rlm_graph

DATABASE = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")
STORE = os.environ.get("RLM_CONTENT_STORE", "rlm-content")
AT_ONCE = int(os.environ.get("RUNS_AT_ONCE", "8"))
TAKEN_SECONDS = int(os.environ.get("TAKEN_SECONDS", "15"))
"""So long a question stays a worker's that is not heard of; by the clock of the database."""

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
"""Then the error stays with the question: a question that ends workers would end all of them."""


async def put(pool: AsyncConnectionPool, question: str, context: str) -> None:
    async with pool.connection() as db:
        await db.execute(
            "insert into rlm_questions (thread, question, context) values (%s, %s, %s)",
            [uuid.uuid4().hex, question, context],
        )


async def answer(graph: Any, pool: AsyncConnectionPool, row: dict[str, Any]) -> None:
    """Begin with a question, or go on with it."""
    thread = {"configurable": {"thread_id": row["thread"]}}
    try:
        begun = (await graph.aget_state(thread)).values
        given = None if begun else {"query": row["question"], "context": row["context"]}
        result = await graph.ainvoke(given, thread)
        noted = (str(result["answer"]), None) if result["answer"] is not None else (None, str(result["error"]))
    except ThreadBusyError:
        return  # another worker has it still, and will note its answer
    except Exception as error:  # noqa: BLE001 - it stays with its question
        if row["tries"] < TRIES:
            print(f"{row['thread']}: {type(error).__name__}: {error}", file=sys.stderr)
            return  # it is tried again when it is nobody's
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
        async with pool.connection() as db:
            await db.execute(KEEP, [TAKEN_SECONDS, list(at_work.values())])
            while len(at_work) < AT_ONCE and (row := await (await db.execute(TAKE, [TAKEN_SECONDS])).fetchone()):
                at_work[asyncio.create_task(answer(graph, pool, row))] = row["thread"]
            left = await (
                await db.execute("select 1 from rlm_questions where answer is null and error is null limit 1")
            ).fetchone()
        if once and not left:
            break
        await asyncio.wait({*at_work, asyncio.create_task(asyncio.sleep(0.5))}, return_when=asyncio.FIRST_COMPLETED)
        for done in [task for task in at_work if task.done()]:
            del at_work[done]
            done.result()
    graph.close()


async def main(arguments: list[str]) -> None:
    kwargs = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    async with AsyncConnectionPool(DATABASE, max_size=min(AT_ONCE, 10), kwargs=kwargs) as pool:
        async with pool.connection() as db:
            await db.execute("select pg_advisory_lock(1)")  # two workers that start at once
            await db.execute(TABLE)
            await db.execute("select pg_advisory_unlock(1)")
        if arguments[:1] == ["put"]:
            text = await asyncio.to_thread(Path(arguments[2]).read_text) if len(arguments) > 2 else ""
            await put(pool, arguments[1], text)
        else:
            await work(pool, once="--once" in arguments)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
