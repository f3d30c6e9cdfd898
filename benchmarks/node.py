"""One node with many runs at once, on PostgreSQL: what docs/scaling.md calculates with.

python -m benchmarks.node [--runs 50] [--at-once 10] [--latency 0.3]

Each run has three iterations and twelve sub-calls. The models are scripted, in a process of their own; its CPU and that
of PostgreSQL are not counted. Needs PostgreSQL's programs.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.chaos.processes import descendants
from tests.postgres import postgres_server
from tests.server import ModelServer, cell

CELLS = (
    "a = [llm_query(f'part {i}: ' + context[i * 200:][:200]) for i in range(4)]\nprint(a)",
    "b = llm_query_batched([f'whole {i}: ' + context[i * 200:][:200] for i in range(8)])\nprint(b)",
    "SUBMIT(len(a) + len(b))",
)
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.3, help="seconds of a model call")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    mine, other = context.Pipe()
    models = context.Process(target=_serve, args=(other, options.latency), daemon=True)
    models.start()
    try:
        with postgres_server() as url, tempfile.TemporaryDirectory() as folder:
            asyncio.run(_measure(url, folder, mine.recv(), options))
    finally:
        mine.send("end")
        models.join()
    return 0


def _serve(pipe: Any, latency: float) -> None:
    with ModelServer(latency=latency) as server:
        server.script("root", [cell(code) for code in CELLS])
        server.script("sub", "a sentence of some length that answers what was asked. " * 4)
        pipe.send(server.url)
        pipe.recv()


async def _measure(url: str, folder: str, models: str, options: argparse.Namespace) -> None:
    import psycopg
    from langchain_openai import ChatOpenAI
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    from rlm_adapters import ContentStore, create_rlm_graph

    root, sub = (ChatOpenAI(model=name, base_url=models, api_key="test", max_retries=0) for name in ("root", "sub"))
    kwargs = {"autocommit": True, "row_factory": dict_row, "prepare_threshold": 0}
    async with AsyncConnectionPool(url, max_size=10, kwargs=kwargs) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        graph = create_rlm_graph(root, sub, checkpointer=saver, store=ContentStore(Path(folder)))
        turn = asyncio.Semaphore(options.at_once)

        async def one(number: int) -> None:
            async with turn:
                given = {"query": "How many?", "context": f"text {number} " * 2_000}
                done = await graph.ainvoke(given, {"configurable": {"thread_id": str(number)}})
                assert done["answer"] == 12, done

        await one(-1)  # what is done once in a process
        before, cpu, begun = _counts(url), _cpu_seconds(), time.perf_counter()
        peak = asyncio.create_task(_peak())
        await asyncio.gather(*map(one, range(options.runs)))
        seconds, cpu = time.perf_counter() - begun, _cpu_seconds() - cpu
        peak.cancel()
        memory, alone = await peak, _pss()
        graph.close()
    await asyncio.sleep(1.5)  # PostgreSQL's own counts come late
    counts = {name: (value - before[name]) / options.runs for name, value in _counts(url).items()}
    with psycopg.connect(url) as db:
        (size,) = db.execute(
            "select (select sum(octet_length(blob)) from checkpoint_writes) + "
            "(select sum(octet_length(blob)) from checkpoint_blobs) + "
            "(select sum(octet_length(checkpoint::text)) from checkpoints)"
        ).fetchone()
    print(f"{options.runs} runs, {options.at_once} at once, {options.latency} s a model call")
    print(f"load of the machine      {os.getloadavg()[0]:.1f}")
    print(f"runs per second          {options.runs / seconds:.2f}")
    print(f"CPU per run              {cpu / options.runs * 1000:.0f} ms")
    print(f"memory at the peak       {memory / 2**20:.0f} MiB PSS, without runs {alone / 2**20:.0f} MiB")
    print(f"memory per open run      {(memory - alone) / options.at_once / 2**20:.1f} MiB PSS")
    print(f"checkpoint bytes per run {size / (options.runs + 1) / 1000:.0f} kB")
    print(f"PostgreSQL per run       {counts['xact_commit']:.0f} transactions, {counts['tup_inserted']:.0f} rows")


def _counts(url: str) -> dict[str, int]:
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(url, row_factory=dict_row) as db:
        row = db.execute(
            "select xact_commit, tup_inserted from pg_stat_database where datname = current_database()"
        ).fetchone()
    assert row
    return row


def _ours() -> list[int]:
    """This process and the processes of its sandboxes; not the model server or PostgreSQL."""
    own = os.getpid()
    return [own, *(pid for pid in descendants(own) if _is_sandbox(pid))]


def _is_sandbox(pid: int) -> bool:
    try:
        return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _cpu_seconds() -> float:
    """Of the processes and of children that they have waited for."""
    total = 0
    for pid in _ours():
        try:
            total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:15]))
        except OSError:
            continue
    return total / _TICK


def _pss() -> int:
    total = 0
    for pid in _ours():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


async def _peak() -> int:
    most = 0
    try:
        while True:
            most = max(most, await asyncio.to_thread(_pss))
            await asyncio.sleep(0.3)
    except asyncio.CancelledError:
        return most


if __name__ == "__main__":
    sys.exit(main())
