"""Starts workers on a queue of questions, kills some, and counts what came of it."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.server import ModelServer, cell, question_text, turn_of

ROOT = Path(__file__).parents[2]
CALLS = 9
"""Sub-calls of a run."""


@dataclass
class Seen:
    """What came of the runs."""

    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    repeated: int = 0
    """Sub-calls asked more than once: those in flight, or not saved yet, when their worker was killed."""
    by_two_at_once: list[str] = field(default_factory=list)
    """Threads for which a second worker asked before the first one had asked for the last time, or without need."""
    gone_on: int = 0
    """Runs that a worker began and another one ended."""
    by_worker: Counter = field(default_factory=Counter)
    seconds: float = 0.0


def root(messages, request):
    tag = question_text(messages).partition("TAG=")[2].split()[0]
    steps = (
        f"a = [llm_query(f'{tag} loop {{i}}.') for i in range(4)]\nprint(len(a))",
        f"b = llm_query_batched([f'{tag} batch {{i}}.' for i in range(4)])\nprint(len(b))",
        f"SUBMIT('|'.join([*a, *b, llm_query('{tag} last.'), context]))",
    )
    return cell(steps[min(turn_of(messages), 2)])


def prompts_of(tag: str) -> list[str]:
    loop, batch = ([f"{tag} {kind} {number}." for number in range(4)] for kind in ("loop", "batch"))
    return [*loop, *batch, f"{tag} last."]


def right_answer(tag: str) -> str:
    return "|".join([*(f"<{prompt}>" for prompt in prompts_of(tag)), f"text of {tag}"])


def crew(
    url: str,
    folder: Path,
    *,
    runs: int,
    workers: int,
    kills: int,
    seed: int,
    stop: int = signal.SIGKILL,
    restart: Callable[[], None] | None = None,
) -> Seen:
    """Let workers answer questions, and kill some of them in the middle.

    Args:
        url: of a PostgreSQL database that is empty.
        folder: for the content store.
        runs: how many questions.
        workers: how many at the beginning.
        kills: how many of them are killed, when a share of the answers is there; one at least stays.
        seed: of the moments.
        stop: how.
        restart: restarts the database; called once, while a worker is in the middle of a run.
    """
    tags = [f"r{number}" for number in range(runs)]
    seen, dice, dead = Seen(), random.Random(seed), {}
    with ModelServer(latency=0.05) as server:
        server.script("gpt-5", root)
        server.script("gpt-5-mini", lambda messages, _: f"<{messages[-1]['content']}>")
        crewmen = {f"worker-{number}": _start(f"worker-{number}", url, server.url, folder) for number in range(workers)}
        begun = time.monotonic()
        try:
            with ExitStack() as stack:
                db = stack.enter_context(psycopg.connect(url, autocommit=True))
                _fill(db, tags)
                waits = sorted(dice.uniform(0, 0.4) * runs for _ in range(kills))
                while any(process.poll() is None for process in crewmen.values()):
                    (done,) = db.execute("select count(*) from rlm_questions where answer is not null").fetchone()
                    alive = [name for name in crewmen if name not in dead]
                    name = next((one for one in alive if _is_in_the_middle(one, server.requests)), None)
                    if name and waits and done >= waits[0]:
                        waits.pop(0)
                        crewmen[name].send_signal(stop)
                        crewmen[name].wait()
                        dead[name] = time.monotonic()
                    elif name and restart is not None:
                        dead = dict.fromkeys(crewmen, time.monotonic())
                        restart()
                        restart = None
                        assert [one.poll() for one in crewmen.values()] == [None] * workers
                        db = stack.enter_context(psycopg.connect(url, autocommit=True))
                    assert time.monotonic() - begun < 60 + 30 * runs, "the workers do not end"
                    time.sleep(0.02)
                seen.seconds = time.monotonic() - begun
                rows = db.execute("select thread, answer, error from rlm_questions").fetchall()
        finally:
            for process in crewmen.values():
                process.kill()
                process.wait()
        requests = list(server.requests)
    asked = Counter(str(one.messages[-1]["content"]) for one in requests if one.model == "gpt-5-mini")
    for tag, answer, error in rows:
        seen.answered += answer is not None
        if answer != right_answer(tag):
            seen.wrong.append(f"{tag}: {answer!r:.200} {error}")
        seen.lost += sum(not asked[prompt] for prompt in prompts_of(tag))
        seen.repeated += sum(max(0, asked[prompt] - 1) for prompt in prompts_of(tag))
        _judge(tag, [one for one in requests if f"{tag} " in _words(one)], dead, seen)
    return seen


def _is_in_the_middle(name: str, requests: list) -> bool:
    """Whether a worker waits for a sub-LM at this moment, in a cell that makes one call after the other."""
    last = next((one for one in reversed(requests) if one.headers["Authorization"].endswith(name)), None)
    return last is not None and last.model == "gpt-5-mini" and last.status is None


def _judge(tag: str, requests: list, dead: dict[str, float], seen: Seen) -> None:
    """Whether each next worker of a thread came after the one before had died."""
    turns = [(one.time, one.headers["Authorization"].removeprefix("Bearer ")) for one in requests]
    order = [turns[0][1], *(one for (_, before), (_, one) in itertools.pairwise(turns) if one != before)]
    seen.by_worker[order[-1]] += 1
    seen.gone_on += len(order) > 1
    for before, after in itertools.pairwise(order):
        first = min(at for at, name in turns if name == after)
        if before not in dead or first < dead[before] - 0.001:
            seen.by_two_at_once.append(f"{tag}: {order}")


def _words(request) -> str:
    text = str(request.messages[-1]["content"]) if request.model == "gpt-5-mini" else question_text(request.messages)
    return text.replace("TAG=", "") + " "


def _fill(db, tags: list[str]) -> None:
    while True:
        try:
            for tag in tags:
                db.execute(
                    "insert into rlm_questions (thread, question, context) values (%s, %s, %s) on conflict do nothing",
                    [tag, f"Do it. TAG={tag} ", f"text of {tag}"],
                )
        except psycopg.errors.UndefinedTable:
            time.sleep(0.05)  # the first worker makes it
        else:
            return


def _start(name: str, url: str, models: str, folder: Path) -> subprocess.Popen:
    changed = {
        "DATABASE_URL": url,
        "RLM_CONTENT_STORE": str(folder / "store"),
        "OPENAI_BASE_URL": models,
        "OPENAI_API_KEY": name,
        "RUNS_AT_ONCE": "4",
        "TAKEN_SECONDS": "3",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen([sys.executable, ROOT / "examples" / "worker.py", "--once"], env=os.environ | changed)
