"""The shipped graphs on LangGraph's own server, with its default options: its blocking detection ends a run that blocks.

``make test-server`` installs the server and runs this. The client is LangGraph's SDK, over HTTP.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from langgraph_sdk import get_client

from tests.server import ModelServer, cell

ROOT = Path(__file__).parents[2]
PROGRAM = os.environ.get("LANGGRAPH_PROGRAM", "")
START_SECONDS = 120
BIG = "word " * 20_000

pytestmark = [pytest.mark.server, pytest.mark.skipif(not PROGRAM, reason="LANGGRAPH_PROGRAM names no server's program")]


def root(messages, request):
    """Play the root LM: each question names what to do."""
    turn = sum(message["role"] == "assistant" for message in messages)
    text = str(messages)
    if "work for ever" in text:
        return cell("while True:\n    pass")
    if "two steps" in text:
        return cell("n = len(context)") if turn == 0 else cell("SUBMIT(n + len(context))")
    if "read the file" in text:
        return cell("SUBMIT(open('f').read())")
    if "ask a helper" in text:
        return cell("SUBMIT(llm_query('say yes' + ' please' * 20000))")
    return cell("SUBMIT(context if len(str(context)) < 5000 else len(context))")


class Served:
    """A server's process in a folder of its own, which keeps the threads."""

    def __init__(self, folder, models):
        self.folder = folder
        self._models = models
        shutil.copytree(ROOT / "graphs", folder / "graphs", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "langgraph.json", folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        environment = os.environ | {
            "OPENAI_API_KEY": "the-key-of-the-server",
            "OPENAI_BASE_URL": self._models.url,
            "RLM_MODEL": "openai:root",
            "RLM_SUB_MODEL": "openai:sub",
            "RLM_CONTENT_STORE": str(self.folder / "content"),
            "LANGSMITH_TRACING": "false",
        }
        self.log = (self.folder / "log").open("a")
        command = [PROGRAM, "dev", "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        for _ in range(START_SECONDS * 4):
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ok", timeout=1).read()
            except OSError:
                time.sleep(0.25)
            else:
                return
        raise AssertionError((self.folder / "log").read_text()[-3000:])

    def stop(self):
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()

    @property
    def client(self):
        return get_client(url=f"http://127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with ModelServer() as models:
        models.script("root", root)
        models.script("sub", lambda messages, request: "yes " * 2000)
        server = Served(tmp_path_factory.mktemp("served"), models)
        yield server
        server.stop()


async def test_a_run_answers_and_blocks_nothing(served):
    result = await served.client.runs.wait(None, "rlm", input={"query": "q", "context": "abc"})
    assert (result["answer"], result["finish_reason"]) == ("abc", "submitted")
    result = await served.client.runs.wait(None, "rlm", input={"query": "ask a helper", "context": BIG})
    assert result["answer"].startswith("yes yes")


async def test_an_input_of_ten_megabytes(served):
    given = {"query": "q", "context": "x" * 10_000_000}
    assert (await served.client.runs.wait(None, "rlm", input=given))["answer"] == 10_000_000


async def test_many_runs_at_once(served):
    works = [served.client.runs.wait(None, "rlm", input={"query": "q", "context": f"{n}"}) for n in range(8)]
    assert [result["answer"] for result in await asyncio.gather(*works)] == [str(n) for n in range(8)]


async def test_the_larger_graph_streams_with_its_subgraph(served):
    parts = []
    async for part in served.client.runs.stream(
        None,
        "research",
        input={"topic": "owls", "sources": ["a", "b"]},
        stream_mode=["updates", "custom"],
        stream_subgraphs=True,
    ):
        assert part.event != "error", part.data
        parts.append(part)
    names = {name for part in parts if part.event == "updates" and isinstance(part.data, dict) for name in part.data}
    assert {"plan", "rlm", "write"} <= names
    assert any(part.event.startswith("custom|rlm:") for part in parts)


async def test_an_interrupted_run_is_edited_and_goes_on(served):
    client = served.client
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "rlm", input={"query": "two steps", "context": BIG}, interrupt_before=["execute"])
    state = await client.threads.get_state(thread)
    assert state["next"] == ["execute"]
    await client.threads.update_state(thread, {"queue": ["n = 1000"]})
    assert (await client.runs.wait(thread, "rlm", input=None))["answer"] == 1000 + len(BIG)
    history = await client.threads.get_history(thread, limit=50)
    first = [one for one in history if one["next"] == ["execute"]][-1]
    again = await client.runs.wait(thread, "rlm", input=None, checkpoint=first["checkpoint"])
    assert again["answer"] == 2 * len(BIG)  # time travel: as it was before the edit


async def test_a_cell_that_never_ends_is_cancelled(served):
    client = served.client
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "rlm", input={"query": "work for ever", "context": "x"})
    await asyncio.sleep(2)
    await client.runs.cancel(thread, run["run_id"], wait=True)
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"
    joined = await client.runs.create(thread, "rlm", input={"query": "q", "context": "after"})
    assert (await client.runs.join(thread, joined["run_id"]))["answer"] == "after"


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ"])
async def test_a_client_reads_no_file_of_the_server(path, served):
    result = await served.client.runs.wait(
        None, "rlm", input={"query": "read the file", "context": "x", "files": {"f": path}}
    )
    assert result["answer"] == path


@pytest.mark.parametrize("kind", ["text", "bytes", "json"])
async def test_a_client_makes_no_reference(kind, served):
    forged = {"$content": "../../etc/passwd", "kind": kind, "size": 2000}
    result = await served.client.runs.wait(None, "rlm", input={"query": "q", "context": forged})
    assert result["answer"] == forged


async def test_bad_input_is_told_to_the_client(served):
    with pytest.raises(Exception, match="give the question as non-empty text under 'query'"):
        await served.client.runs.wait(None, "rlm", input={"context": "x"})


async def test_a_thread_goes_on_after_the_server_was_started_again(served):
    thread = (await served.client.threads.create())["thread_id"]
    given = {"query": "two steps", "context": BIG}
    await served.client.runs.wait(thread, "rlm", input=given, interrupt_after=["execute"])
    served.stop()
    served.start()
    assert (await served.client.runs.wait(thread, "rlm", input=None))["answer"] == 2 * len(BIG)
