"""Two replicas of Aegra on one PostgreSQL, behind LangGraph's SDK: one is killed, the other one ends its threads.

Aegra 0.6 runs a run as a task of the replica that got the request, and gives it to no other one: the run of a dead
replica stays "running" for ever. Its thread is whole, though: a request to any replica goes on with it.
"""

import asyncio
import os
import time
from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos.savers import saved
from tests.postgres import postgres_server
from tests.served.servers import Aegra
from tests.server import ModelServer, cell, never_answers, question_text, turn_of

PROGRAM = os.environ.get("AEGRA_PROGRAM", "")
GO_ON = {"update": {"error": None}}
"""A command that changes nothing: Aegra 0.6 takes neither no input nor an empty command."""
STEPS = ("one", "two", "three")

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not PROGRAM, reason="AEGRA_PROGRAM does not name the server's program"),
]


def root(messages, request):
    tag = question_text(messages).partition("TAG=")[2].split()[0]
    ask = "\n".join(f"{step} = llm_query(f'{tag} {step} {{{before}}}.')" for before, step in pairwise(("0", *STEPS)))
    return cell(ask) if turn_of(messages) == 0 else cell("SUBMIT(three + context[:5])")


def answer_to(prompt):
    return f"<{prompt.split()[1]}>"


class Pair:
    """Two replicas, and models that never answer a third call to the first of them while it lives."""

    def __init__(self, models, replicas, database):
        self.models = models
        self.replicas = replicas
        self.database = database
        models.script("root", root)
        models.script("sub", self._sub)

    def _sub(self, messages, request):
        prompt = str(messages[-1]["content"])
        waits = prompt.startswith("first") and " three " in prompt and self.replicas[0].process.poll() is None
        return never_answers() if waits else answer_to(prompt)

    def prompts(self):
        return [str(one.messages[-1]["content"]) for one in self.models.requests_of("sub")]


@pytest.fixture
def pair(tmp_path):
    with ModelServer() as models, postgres_server() as database:
        replicas = []
        try:
            for name in ("first", "second"):
                (tmp_path / name).mkdir()
                replicas.append(Aegra(PROGRAM, tmp_path / name, models.url, database, tmp_path / "content"))
            yield Pair(models, replicas, database)
        finally:
            for one in replicas:
                if one.process.poll() is None:
                    one.stop()


async def until(true):
    end = time.monotonic() + 60
    while not (found := await true()):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    return found


async def test_the_threads_of_a_killed_replica_are_ended_by_the_other(pair):
    first, second = (one.client for one in pair.replicas)
    threads = {tag: (await first.threads.create())["thread_id"] for tag in ("first1", "first2", "second1", "second2")}
    runs = {}
    for tag, thread in threads.items():
        given = {"query": f"Do it. TAG={tag} ", "context": "text " * 20_000}
        client = first if tag.startswith("first") else second
        runs[tag] = (await client.runs.create(thread, "rlm", input=given))["run_id"]

    async def in_the_middle():
        asked = sum(prompt.startswith("first") and " three " in prompt for prompt in pair.prompts())
        found = [saved(pair.database, threads[tag]) for tag in ("first1", "first2")]
        return asked == 2 and all(any(b"<two>" in one.data for one in thread) for thread in found)

    await until(in_the_middle)

    refused = (await second.runs.create(threads["first1"], "rlm", command=GO_ON))["run_id"]

    async def was_refused():
        run = await second.runs.get(threads["first1"], refused)
        return run if run["status"] == "error" else None

    assert "is being run by another call" in (await until(was_refused))["error_message"]  # no thread is run by two

    pair.replicas[0].kill()
    for tag in ("second1", "second2"):
        assert (await second.runs.join(threads[tag], runs[tag]))["answer"] == "<three>text "
    for tag in ("first1", "first2"):
        assert (await second.runs.get(threads[tag], runs[tag]))["status"] == "running"
        assert (await second.runs.wait(threads[tag], "rlm", command=GO_ON))["answer"] == "<three>text "
        state = await second.threads.get_state(threads[tag])
        assert (state["values"]["answer"], state["next"]) == ("<three>text ", [])
        asked_again = await second.runs.wait(threads[tag], "rlm", input={"query": f"Do it. TAG=second{tag} "})
        assert asked_again["answer"] == "<three>text "  # a thread that changed its replica is a session still

    asked = Counter(prompt for prompt in pair.prompts() if not prompt.startswith("secondfirst"))
    assert len(asked) == len(threads) * len(STEPS)
    again = {prompt: times for prompt, times in asked.items() if times > 1}
    assert again == {prompt: 2 for prompt in asked if prompt.startswith("first") and " three " in prompt}
