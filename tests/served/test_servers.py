"""The shipped graphs on real servers with their default options, driven by LangGraph's SDK over HTTP.

``make test-server`` installs LangGraph's own server, ``make test-aegra`` the open one; each runs this file. A client sees
the same on both, but for what a test says of one of them.
"""

import asyncio
import os
from contextlib import ExitStack

import pytest

from rlm_adapters import RLMOptions
from tests.postgres import postgres_server
from tests.served.servers import Aegra, LangGraphDev
from tests.server import ModelServer, cell, text_of

PROGRAMS = {"langgraph": os.environ.get("LANGGRAPH_PROGRAM", ""), "aegra": os.environ.get("AEGRA_PROGRAM", "")}
BIG = "word " * 20_000

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        not any(PROGRAMS.values()), reason="LANGGRAPH_PROGRAM and AEGRA_PROGRAM name no server's program"
    ),
]


def root(messages, request):
    """Play the root LM: each question names what to do."""
    turn = sum(message["role"] == "assistant" for message in messages)
    text = text_of(messages[1]).splitlines()[0]  # below it stand the earlier questions of the thread
    if "work for ever" in text:
        return cell("while True:\n    pass")
    if "what was n" in text:
        return cell("SUBMIT(n)")
    if "two steps" in text:
        return cell("n = len(context)") if turn == 0 else cell("SUBMIT(n + len(context))")
    if "read the file" in text:
        return cell("SUBMIT(open('f').read())")
    if "ask a helper" in text:
        return cell("SUBMIT(llm_query('say yes' + ' please' * 20000))")
    return cell("SUBMIT(context if len(str(context)) < 5000 else len(context))")


@pytest.fixture(scope="module", params=[name for name, program in PROGRAMS.items() if program] or [""])
def served(request, tmp_path_factory):
    with ExitStack() as stack:
        models = stack.enter_context(ModelServer())
        models.script("root", root)
        models.script("sub", lambda messages, request: "yes " * 2000)
        models.script("fast", lambda messages, request: cell("SUBMIT('fast')"))
        folder = tmp_path_factory.mktemp("served")
        if request.param == "aegra":
            database = stack.enter_context(postgres_server())
            server = Aegra(PROGRAMS["aegra"], folder, models.url, database)
        else:
            server = LangGraphDev(PROGRAMS["langgraph"], folder, models.url)
        stack.callback(server.stop)
        yield server


async def answer_of(served, question, **options):
    """The result of a run on a thread of its own."""
    thread = (await served.client.threads.create())["thread_id"]
    return await served.client.runs.wait(thread, "rlm", input=question, **options)


async def failure_of(served, question, **options):
    """What a client is told of a run that fails."""
    thread = (await served.client.threads.create())["thread_id"]
    run = await served.client.runs.create(thread, "rlm", input=question, **options)
    while (run := await served.client.runs.get(thread, run["run_id"]))["status"] in ("pending", "running"):
        await asyncio.sleep(0.1)
    assert run["status"] == "error"
    if isinstance(served, Aegra):
        return run["error_message"]
    return (await served.client.threads.get(thread))["error"]


async def test_a_run_answers_and_blocks_nothing(served):
    result = await answer_of(served, {"query": "q", "context": "abc"})
    assert (result["answer"], result["finish_reason"]) == ("abc", "submitted")
    result = await answer_of(served, {"query": "ask a helper", "context": BIG})
    assert result["answer"].startswith("yes yes")


async def test_an_input_of_ten_megabytes(served):
    given = {"query": "q", "context": "x" * 10_000_000}
    assert (await answer_of(served, given))["answer"] == 10_000_000


async def test_many_runs_at_once(served):
    works = [answer_of(served, {"query": "q", "context": f"{n}"}) for n in range(8)]
    assert [result["answer"] for result in await asyncio.gather(*works)] == [str(n) for n in range(8)]


async def test_the_larger_graph_streams_with_its_subgraph(served):
    parts = []
    thread = (await served.client.threads.create())["thread_id"]
    async for part in served.client.runs.stream(
        thread,
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
    if isinstance(served, Aegra):
        pytest.skip("Aegra 0.6 drops interrupt_before and interrupt_after; it stops where a node interrupts")
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


async def test_cells_wait_for_approval_are_edited_and_go_on(served):
    client = served.client
    thread = (await client.threads.create())["thread_id"]
    asking = {"approve": "cells"}
    await client.runs.wait(thread, "rlm", input={"query": "two steps", "context": BIG}, context=asking)
    (interrupt,) = (await client.threads.get_state(thread))["tasks"][0]["interrupts"]
    assert interrupt["value"]["action_requests"][0]["args"]["code"] == "n = len(context)"
    edit = {"type": "edit", "edited_action": {"name": "run_cell", "args": {"code": "n = 1000"}}}
    await client.runs.wait(thread, "rlm", command={"resume": edit}, context=asking)
    result = await client.runs.wait(thread, "rlm", command={"resume": {"type": "approve"}}, context=asking)
    assert result["answer"] == 1000 + len(BIG)


async def test_a_second_question_finds_what_the_first_left(served):
    client = served.client
    thread = (await client.threads.create())["thread_id"]
    first = await client.runs.wait(thread, "rlm", input={"query": "two steps", "context": BIG})
    second = await client.runs.wait(thread, "rlm", input={"query": "what was n?"})
    assert (first["answer"], second["answer"]) == (2 * len(BIG), len(BIG))


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
    result = await answer_of(served, {"query": "read the file", "context": "x", "files": {"f": path}})
    assert result["answer"] == path


@pytest.mark.parametrize("kind", ["text", "bytes", "json"])
async def test_a_client_makes_no_reference(kind, served):
    forged = {"$content": "../../etc/passwd", "kind": kind, "size": 2000}
    result = await answer_of(served, {"query": "q", "context": forged})
    assert result["answer"] == forged


async def test_bad_input_is_told_to_the_client(served):
    assert "give the question as non-empty text under 'query'" in str(await failure_of(served, {"context": "x"}))


async def test_the_schemas_make_a_form(served):
    async def schemas_of(graph):
        (assistant,) = await served.client.assistants.search(graph_id=graph)
        return await served.client.assistants.get_schemas(assistant["assistant_id"])

    schemas = await schemas_of("rlm")
    given = schemas["input_schema"]["properties"]
    assert given["context"]["anyOf"][0]["type"] == "string"
    assert all(one["description"] for one in given.values())
    options = schemas["context_schema"]["properties"]
    assert options["model"]["anyOf"][0]["enum"] == ["fast"]
    assert options["limits"]["anyOf"][0]["properties"]["max_iterations"]["anyOf"][0]["maximum"] == 20
    research = await schemas_of("research")
    assert set(research["input_schema"]["properties"]) == {"topic", "sources"}
    assert set(RLMOptions.model_fields) == set(research["context_schema"]["properties"])
    assert all(schemas[kind] for kind in ("output_schema", "state_schema", "config_schema"))


async def test_an_assistant_has_options_of_its_own(served):
    client = served.client
    context = {"model": "fast", "limits": {"max_iterations": 1}, "instructions": "Be brief."}
    assistant = await client.assistants.create("rlm", context=context)
    thread = (await client.threads.create())["thread_id"]
    result = await client.runs.wait(thread, assistant["assistant_id"], input={"query": "q", "context": "abc"})
    assert (result["answer"], set(result["usage"]["by_model"])) == ("fast", {"fast"})
    short = await client.assistants.create("rlm", context={"limits": {"max_iterations": 1}})
    thread = (await client.threads.create())["thread_id"]
    given = {"query": "two steps", "context": "abc"}
    assert (await client.runs.wait(thread, short["assistant_id"], input=given))["finish_reason"] == "max_iterations"
    longer = await answer_of(served, given, context={"limits": {"max_iterations": 2}})
    assert longer["answer"] == 6
    research = await client.assistants.create("research", context={"model": "fast"})
    thread = (await client.threads.create())["thread_id"]
    given = {"topic": "owls", "sources": ["a"]}
    told = await client.runs.wait(thread, research["assistant_id"], input=given)
    assert told["report"] == "# owls\n\nfast", "the options of the larger graph reach the RLM in it"


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"limits": {"max_iterations": 1_000}}, "give at most 20"),
        ({"limits": {"max_iteration": 1}}, "did you mean max_iterations"),
        ({"model": "openai:gpt-5"}, "it offers 'fast'"),
        ({"output_type": {"$ref": "file:///etc/passwd"}}, "is outside of the schema"),
    ],
)
async def test_options_that_the_graph_does_not_offer_are_told_to_the_client(context, message, served):
    assert message in str(await failure_of(served, {"query": "q", "context": "x"}, context=context))


async def test_a_thread_goes_on_after_the_server_was_started_again(served):
    if isinstance(served, Aegra):
        pytest.skip("Aegra 0.6 drops interrupt_before and interrupt_after; it stops where a node interrupts")
    thread = (await served.client.threads.create())["thread_id"]
    given = {"query": "two steps", "context": BIG}
    await served.client.runs.wait(thread, "rlm", input=given, interrupt_after=["execute"])
    served.stop()
    served.start()
    assert (await served.client.runs.wait(thread, "rlm", input=None))["answer"] == 2 * len(BIG)
