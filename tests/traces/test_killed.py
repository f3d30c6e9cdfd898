"""A process that is killed in the middle of a batch: its trace is there up to the last event."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rlm_adapters.traces.reader import TraceReader
from tests.server import cell, never_answers

JOB = """
import asyncio, sys
from langchain_openai import ChatOpenAI
from rlm_adapters import create_rlm_graph

url, trace, form = sys.argv[1:]
models = [ChatOpenAI(model=name, base_url=url, api_key="test", max_retries=0) for name in ("root", "sub")]
graph = create_rlm_graph(*models, trace=trace, limits={"max_concurrency": 100})
given = {"query": "q", "context": "abc"}
asyncio.run(graph.ainvoke(given)) if form == "async" else graph.invoke(given)
"""

ANSWERED, ASKED = 60, 80


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_killed_run_is_read_up_to_its_last_event(model_server, tmp_path, form):
    def sub(messages, request):
        number = int(messages[-1]["content"].split()[-1])
        return f"answer {number} " * 200 if number < ANSWERED else never_answers()

    batch = f"answers = llm_query_batched(['words ' * 500 + str(i) for i in range({ASKED})])"
    model_server.script("root", [cell("print(len(context))"), cell(batch)])
    model_server.script("sub", sub)
    trace = tmp_path / "run.jsonl"
    process = subprocess.Popen([sys.executable, "-c", JOB, model_server.url, str(trace), form])
    try:
        deadline = time.monotonic() + 120
        while answered(trace) < ANSWERED:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with trace.open("ab") as file:
        file.write(b'{"version": 2, "type": "call_fini')  # what a kill in the middle of a write leaves
    reader = TraceReader(trace)
    events = list(reader)
    assert reader.damaged == 1
    started = {event.id: event.data["prompt"] for event in events if event.type == "call_started"}
    finished = {event.id: event.data["answer"] for event in events if event.type == "call_finished"}
    assert (len(started), len(finished)) == (ASKED, ANSWERED)
    for one, answer in finished.items():
        number = started[one].split()[-1]
        assert started[one] == "words " * 500 + number
        assert answer == f"answer {number} " * 200
    assert not any(event.type == "run_finished" for event in events)


def answered(trace):
    return trace.read_bytes().count(b'"type": "call_finished"') if trace.exists() else 0
