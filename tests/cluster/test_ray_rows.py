"""Rows of data sets on a real cluster: `RayEngine`, ``rlm map --ray``, and `AskRows` for ray.data."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

pytest.importorskip("ray")

from rlm_adapters import AskRows, Limits, RayEngine, RayJob, amap_rows, create_rlm_graph, map_rows
from rlm_adapters.cli.main import app
from rlm_adapters.cluster.library import Library
from rlm_adapters.datasets.cluster.ledger import LedgerLostError
from rlm_adapters.errors import InputError
from tests.cluster.nodes import until
from tests.runner import CliRunner
from tests.server import question_text, server_error

pytestmark = pytest.mark.ray
QUESTION = "Which river is in {name}?"
ACTORS = {"actors": 2, "num_cpus": 0.3}


def graph(url, **limits):
    """Runs on the nodes: rows are answered by one call each."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="root", base_url=url, api_key="test", max_retries=0)
    return create_rlm_graph(model, direct_below=1_000, limits=Limits(max_retries=0, **limits))


def module(url):
    import dspy

    from rlm_adapters import RLM

    dspy.configure(lm=dspy.LM("openai/root", api_base=url, api_key="test", cache=False))
    return RLM("text -> count: int")


def towns(count):
    return [{"name": f"town-{number};", "text": f"It lies at river-{number}."} for number in range(count)]


def number_of(messages):
    return re.search(r"town-([0-9]+);", question_text(messages)).group(1)


@pytest.fixture
def server(model_server):
    model_server.script("root", lambda messages, request: f"river-{number_of(messages)}")
    return model_server


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "towns.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in towns(40)))
    return path


def lines(output):
    return [json.loads(line) for line in output.read_text().splitlines()]


def answers(output):
    return sorted((line["id"], line["answer"]) for line in lines(output))


def asked_of(server):
    return Counter(re.search(r"town-[0-9]+;", record.prompt).group() for record in server.requests)


def command(server, nodes, data, output, *options):
    return [
        *("map", QUESTION, str(data), "-o", str(output), "--ray", nodes.address, "--model", "openai:root"),
        *("--base-url", server.url, "--api-key", "test", "--direct-below", "1000", *options),
    ]


@pytest.mark.slow
def test_the_command_writes_what_it_writes_without_a_cluster(nodes, server, data, tmp_path):
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    done = CliRunner().invoke(app, command(server, nodes, data, there, "--ordered"))
    assert done.exit_code == 0, done.stderr
    assert map_rows(graph(server.url), QUESTION, data, here, ordered=True).answered == 40
    assert answers(there) == answers(here)
    assert [line["id"] for line in lines(there)] == [line["id"] for line in lines(here)]
    assert set(lines(there)[0]) == set(lines(here)[0])
    assert all(line["usage"]["root_calls"] == 1 and line["run_id"] for line in lines(there))
    assert set(asked_of(server).values()) == {2}


def test_the_budget_holds_over_all_nodes_and_a_second_start_goes_on(nodes, server, data, tmp_path):
    output = tmp_path / "out.jsonl"
    engine = RayEngine(partial(graph, server.url), address=nodes.address, **ACTORS)
    done = map_rows(engine, QUESTION, data, output, concurrency=12, max_calls=15)
    assert len(server.requests) == 15
    assert (done.answered, done.job_usage["root_calls"]) == (15, 15)
    assert "all 15 model calls of the job are used" in done.stopped
    done = map_rows(engine, QUESTION, data, output, concurrency=12, max_calls=50)
    assert (done.answered, done.skipped, done.stopped) == (25, 15, None)
    assert set(asked_of(server).values()) == {1}
    assert done.job_usage["root_calls"] == len(server.requests) == 40


@pytest.mark.slow
def test_rows_that_fail_are_kept_with_their_reason(nodes, server, data, tmp_path):
    server.script("root", lambda messages, request: server_error() if number_of(messages) == "7" else "a river")
    output = tmp_path / "out.jsonl"
    engine = RayEngine(partial(graph, server.url), address=nodes.address, **ACTORS)
    done = map_rows(engine, QUESTION, data, output, limit=10)
    assert (done.answered, done.failed) == (9, 1)
    (failed,) = [line for line in lines(output) if line["error"]]
    assert failed["id"].startswith("8-")
    assert failed["error"]["kind"] == "server"
    with pytest.raises(InputError, match="has no 'place'"):
        map_rows(engine, "Where is {place}?", data, tmp_path / "other.jsonl")


@pytest.mark.slow
async def test_rows_of_a_node_that_is_killed_are_asked_again_and_no_others(nodes, server, tmp_path):
    server.latency = 3.0
    output = tmp_path / "out.jsonl"
    engine = RayEngine(partial(graph, server.url), address=nodes.address, actors=3, num_cpus=0.3)
    job = asyncio.create_task(amap_rows(engine, QUESTION, towns(60), output, concurrency=12))
    await asyncio.to_thread(until, lambda: server.in_flight == 12)  # an actor asks four: all three do
    server.latency = 0.05
    await asyncio.to_thread(nodes.kill)
    try:
        done = await job
    finally:
        nodes.add()
    assert (done.answered, done.failed) == (60, 0)
    assert [line["answer"] for line in sorted(lines(output), key=lambda line: int(line["id"].split("-")[0]))] == [
        f"river-{number}" for number in range(60)
    ]
    asked = asked_of(server)
    assert sum(count > 1 for count in asked.values()) <= 8, "of those that were in progress on the node"
    assert max(asked.values()) <= 2


@pytest.mark.slow
def test_a_lost_ledger_ends_the_job_and_a_second_start_goes_on(nodes, server, tmp_path, monkeypatch):
    import ray

    made, make = [], Library.actor
    monkeypatch.setattr(
        Library, "actor", lambda self, cls, *args, **named: made.append(make(self, cls, *args, **named)) or made[-1]
    )
    output = tmp_path / "out.jsonl"
    engine = RayEngine(partial(graph, server.url), address=nodes.address, **ACTORS)
    killed = []

    def kill(done):
        if done.answered >= 5 and not killed:
            killed.append(ray.kill(made[0]))

    with pytest.raises(LedgerLostError, match="keeps the budget of the job was lost"):
        map_rows(engine, QUESTION, towns(40), output, concurrency=6, on_progress=kill)
    written = {line["id"] for line in lines(output) if not line["error"]}
    assert len(written) >= 5
    done = map_rows(engine, QUESTION, towns(40), output, concurrency=6, retry_failed=True)
    assert (done.answered, done.skipped) == (40 - len(written), len(written))
    assert sum(asked_of(server).values()) <= 40 + 6, "those in progress, at most, were asked twice"


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_where_it_was(nodes, server, data, tmp_path):
    server.latency = 0.2
    output = tmp_path / "out.jsonl"
    given = command(server, nodes, data, output, "--concurrency", "4")
    first = subprocess.Popen([sys.executable, "-m", "rlm_adapters", *given])
    until(lambda: output.exists() and output.read_text().count("\n") >= 12)
    first.send_signal(signal.SIGKILL)
    first.wait()
    written = {line["id"] for line in lines(output)}
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.stderr
    assert f"{len(written)} skipped" in done.stderr
    assert len({line["id"] for line in lines(output)}) == 40
    repeated = [name for name, count in asked_of(server).items() if count > 1]
    assert len(repeated) <= 4, "those that were in progress"


@pytest.mark.slow
def test_a_dspy_module_answers_rows(nodes, model_server, tmp_path):
    step = "[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n```python\nSUBMIT(count=len(text.split()))\n```\n\n[[ ## completed ## ]]"
    model_server.script("root", lambda messages, request: step)
    engine = RayEngine(partial(module, model_server.url), address=nodes.address, **ACTORS)
    output = tmp_path / "out.jsonl"
    map_rows(engine, None, [{"text": "one"}, {"text": "one two"}], output, ordered=True)
    assert [line["answer"] for line in lines(output)] == [1, 2]


def ask_in_batches(server, job, **options):
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    given = {"make": partial(graph, server.url), "question": QUESTION, "job": job, "rows_at_once": 2}
    asked = ray.data.from_items(towns(40), override_num_blocks=10).map_batches(
        AskRows, fn_constructor_kwargs=given | options, batch_size=4, concurrency=2, num_cpus=0.3
    )
    return {row["name"]: row for row in asked.take_all()}


@pytest.mark.slow
def test_ray_data_batches_share_a_budget_keep_failed_rows_and_go_on(nodes, server, tmp_path):
    server.script("root", lambda messages, request: server_error() if number_of(messages) == "3" else "a river")
    output = tmp_path / "out.jsonl"
    with RayJob(output, max_calls=20, address=nodes.address) as job:
        rows = ask_in_batches(server, job)
        done = job.progress()
    assert len(rows) == 40
    assert Counter(row["error_kind"] for row in rows.values())[""] == done.job_usage["root_calls"] == 20
    assert "all 20 model calls of the job are used" in done.stopped
    answered = [row for row in rows.values() if not row["error_kind"]]
    assert {row["answer"] for row in answered} == {'"a river"'}
    assert all(row["input_tokens"] > 0 and row["run_id"] for row in answered)
    with RayJob(output, address=nodes.address) as job:
        again = ask_in_batches(server, job)
        done = job.progress()
    assert done.answered == 19
    assert done.skipped in {20, 21}, "and the row that failed, if it was asked before"
    assert set(asked_of(server).values()) == {1}
    assert {row["name"]: row for row in answered}.items() <= again.items()
    (failed,) = [row for row in again.values() if row["error_kind"]]
    assert (failed["name"], failed["answer"]) == ("town-3;", "null")
    with RayJob(output, address=nodes.address) as job, pytest.raises(Exception, match="with the question"):
        ask_in_batches(server, job, question="Where is {name}?")


@pytest.mark.slow
def test_rows_of_a_batch_that_was_lost_with_its_node_are_not_asked_again(nodes, server):
    server.latency = 0.5
    with RayJob(address=nodes.address) as job, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_in_batches, server, job)
        until(lambda: job.progress().answered >= 6)
        nodes.kill()
        try:
            rows = asking.result(300)
        finally:
            nodes.add()
        assert job.progress().answered == 40
    assert {row["answer"] for row in rows.values()} == {f'"river-{number}"' for number in range(40)}
    assert sum(asked_of(server).values()) <= 44, "two rows at once, of at most two actors"


def test_arguments_that_make_no_sense_are_told_of(nodes):
    with pytest.raises(InputError, match="make=3: give a function"):
        RayEngine(3)
    with pytest.raises(InputError, match="actors=0"):
        RayEngine(graph, actors=0)
    with pytest.raises(InputError, match="rows_at_once=0"):
        AskRows(graph, "q", rows_at_once=0)
    with pytest.raises(InputError, match="answers='-': give the path"):
        RayJob("-")
