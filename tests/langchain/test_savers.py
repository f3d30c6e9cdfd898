"""Runs that wait for tools in real savers: they go on in the same process and in another one, and go away at last."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, messages_to_dict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from rlm_adapters import ContentStore, InputError
from tests.langchain.savers import Dying, Killed, opened, weather
from tests.server import Reply, by_question, cell, server_error

CODE = (
    "notes = [llm_query('one')]\nfor city in ('Bern', 'Rome'):\n    notes.append(weather(city))\n"
    "SUBMIT(' '.join(notes) + ' ' + str(len(context)))"
)
QUESTION = [HumanMessage(["x" * 30_000, "The weather?"])]
KINDS = [
    "sqlite",
    "async sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("async postgres", marks=pytest.mark.postgres),
]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def scripted(model_server):
    model_server.script("root", [cell(CODE)])
    model_server.script("sub", ["paid once"])
    return model_server


def back(message, text):
    """The message and the results of its tool calls."""
    return [message, *(ToolMessage(text, tool_call_id=call["id"]) for call in message.tool_calls)]


# ------------------------------------------------------------------------------------------------ going on


def test_the_same_cell_goes_on_in_the_same_process(scripted, rlm, chat, kind, location, tmp_path):
    with opened(kind, location) as used:
        model = rlm(sub_model=chat("sub"), checkpointer=used.saver, store=ContentStore(tmp_path / "store"))
        bound, history = model.bind_tools([weather]), list(QUESTION)
        for text in ("rain", "sun"):
            history += back(used.ask(bound, history), text)
        assert used.ask(bound, history).text == "paid once rain sun 30000"
        assert used.threads() == set()
    assert len(scripted.requests) == 2


@pytest.mark.parametrize("turn", [0, 1])
def test_a_run_that_is_killed_between_any_two_writes_goes_on_from_there(scripted, rlm, chat, tmp_path, turn):
    for writes in range(50):
        saver, killed = Dying(), False
        model = rlm(sub_model=chat("sub"), checkpointer=saver, store=ContentStore(tmp_path / str(writes)))
        bound, history = model.bind_tools([weather]), list(QUESTION)
        asked = len(scripted.requests)
        for number, text in enumerate(("rain", "sun")):
            history += back(bound.invoke(history), text)
            if number == turn:
                saver.left = writes
                try:
                    bound.invoke(history)
                except Killed:
                    killed = True
                saver.left = None
                model.close()
                if not killed:
                    assert writes > 3
                    return
                other = rlm(sub_model=chat("sub"), checkpointer=saver, store=ContentStore(tmp_path / str(writes)))
                bound = other.bind_tools([weather])
        assert bound.invoke(history).text == "paid once rain sun 30000", writes
        assert len(scripted.requests) - asked == 2, f"paid twice after {writes} writes"
    pytest.fail("it was killed each time")


def test_the_same_cell_goes_on_in_another_process(scripted, rlm, chat, kind, location, tmp_path):
    store = str(tmp_path / "store")

    with opened(kind, location) as used:
        model = rlm(sub_model=chat("sub"), checkpointer=used.saver, store=ContentStore(store))
        history = [*QUESTION, *back(used.ask(model.bind_tools([weather]), QUESTION), "rain")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.langchain.savers", kind, location, store, scripted.url],
        input=json.dumps(messages_to_dict(history)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    second = json.loads(done.stdout)
    assert [call["args"] for call in second["tool_calls"]] == [{"city": "Rome"}]
    with opened(kind, location) as used:
        model = rlm(sub_model=chat("sub"), checkpointer=used.saver, store=ContentStore(store))
        history += back(AIMessage("", tool_calls=second["tool_calls"]), "sun")
        third = used.ask(model.bind_tools([weather]), history)
        assert third.text == "paid once rain sun 30000"
        assert used.threads() == set()
    assert len(scripted.requests) == 2, "nothing is asked twice"
    assert second["usage"]["total_tokens"] == third.usage_metadata["total_tokens"] == 0, "or reported twice"


def test_a_run_that_another_process_goes_on_with_is_waited_for(model_server, rlm, chat, tmp_path):
    """The other one is killed in the middle of the cell, and whoever waits takes over."""
    model_server.script("root", [cell("w = weather('Rome')\nSUBMIT(llm_query('slow') + w)")])
    model_server.script("sub", ["gold "], latency=60)
    location, store = str(tmp_path / "saved.db"), str(tmp_path / "store")
    command = [sys.executable, "-m", "tests.langchain.savers", "sqlite", location, store, model_server.url]
    with opened("sqlite", location) as used, ThreadPoolExecutor(1) as pool:
        model = rlm(sub_model=chat("sub"), checkpointer=used.saver, store=ContentStore(store)).bind_tools([weather])
        history = [*QUESTION, *back(model.invoke(QUESTION), "sun")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
            other.stdin.write(json.dumps(messages_to_dict(history)).encode())
            other.stdin.close()
            while not model_server.requests_of("sub") and other.poll() is None:
                time.sleep(0.01)
            waiting = pool.submit(model.invoke, history)
            time.sleep(0.3)
            model_server.script("sub", ["gold "])
            assert len(model_server.requests_of("sub")) == 1
            other.kill()
        assert waiting.result().text == "gold sun"
    assert len(model_server.requests_of("sub")) == 2
    assert len(model_server.requests_of("root")) == 1


def test_agents_at_once_share_a_saver(model_server, rlm, kind, location, tmp_path):
    def root(messages, request):
        city = messages[1]["content"].split("weather in ")[1].split("?")[0]
        return cell(f"w = weather('{city}')\nSUBMIT('{city}: ' + w + weather('{city}', unit='F'))")

    model_server.script("root", root)
    cities = ["Bern", "Rome", "Oslo"] * 3
    with opened(kind, location) as used:
        agent = create_agent(rlm(checkpointer=used.saver, store=ContentStore(tmp_path / "store")), [weather])
        states = used.ask_all(agent, [{"messages": [HumanMessage(f"weather in {city}?")]} for city in cities])
        assert used.threads() == set()
    expected = [f"{c}: " + "".join(weather.invoke({"city": c, "unit": u}) for u in "CF") for c in cities]
    assert [state["messages"][-1].text for state in states] == expected
    assert len(model_server.requests) == len(cities)


async def test_a_resume_that_was_cancelled_can_be_tried_again(model_server, rlm, chat):
    model_server.script(
        "root", [cell("a = llm_query('first')\nw = weather('Bern')\nSUBMIT(a + w + llm_query('last'))")]
    )
    slow = {"last": True}
    model_server.script(
        "sub", lambda m, r: Reply(m[-1]["content"] + " ", latency=60 if slow["last"] and "last" in str(m) else 0)
    )
    model = rlm(sub_model=chat("sub"))
    bound = model.bind_tools([weather])
    history = [HumanMessage("q"), *back(await bound.ainvoke("q"), "rain ")]
    task = asyncio.create_task(bound.ainvoke(history))
    while len(model_server.requests_of("sub")) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow["last"] = False
    assert (await bound.ainvoke(history)).text == "first rain last "
    asked = [record.messages[-1]["content"] for record in model_server.requests_of("sub")]
    assert asked == ["first", "last", "last"], "only what was cancelled is asked again"
    assert not model._runs.suspended.saver.storage


def test_what_an_ended_process_has_left_is_swept_when_it_has_expired(scripted, rlm, kind, location, tmp_path):
    shared = {"store": ContentStore(tmp_path / "store"), "sub_model": rlm().model}
    with opened(kind, location) as used:
        for _ in range(2):
            used.ask(rlm(checkpointer=used.saver, **shared).bind_tools([weather]), QUESTION)
        assert len(used.threads()) == 2
        patient, strict = (rlm(checkpointer=used.saver, suspended_seconds=s, **shared) for s in (3_600, 1e-6))
        assert used.sweep(patient) == 0
        assert used.sweep(strict) == 2
        assert used.threads() == set()


def test_results_for_a_run_that_expired_elsewhere_start_afresh(model_server, rlm, tmp_path):
    model_server.script("root", by_history)
    shared = {"checkpointer": InMemorySaver(), "store": ContentStore(tmp_path)}
    first = rlm(**shared).bind_tools([weather]).invoke("q")
    late = rlm(**shared, suspended_seconds=1e-6).bind_tools([weather])
    assert late.invoke([HumanMessage("q"), *back(first, "rain")]).text == "from the history"
    assert not shared["checkpointer"].storage


def by_history(messages, request):
    if "has been done for this message already" in messages[1]["content"]:
        return cell("SUBMIT('from the history')")
    return cell("SUBMIT(weather('Bern') + weather('Rome'))")


def test_a_run_whose_content_is_elsewhere_starts_afresh(model_server, rlm, tmp_path):
    model_server.script("root", by_history)
    saver = InMemorySaver()
    first = rlm(checkpointer=saver).bind_tools([weather]).invoke(QUESTION)
    other = rlm(checkpointer=saver, store=ContentStore(tmp_path)).bind_tools([weather])
    assert other.invoke([*QUESTION, *back(first, "rain")]).text == "from the history"


def test_a_saver_of_the_other_form_is_named(model_server, rlm, tmp_path):
    model_server.script("root", [cell("SUBMIT(1)")])
    with SqliteSaver.from_conn_string(str(tmp_path / "saved.db")) as saver:
        model = rlm(checkpointer=saver).bind_tools([weather])
        with pytest.raises(InputError, match="SqliteSaver cannot be used in this form"):
            asyncio.run(model.ainvoke("q"))


# ------------------------------------------------------------------------------------------------ coming twice


@pytest.fixture
def two_calls(model_server, rlm):
    """A model whose run waits for a second tool call, and the history up to the first one's result."""
    model_server.script("root", by_history)
    model = rlm()
    bound = model.bind_tools([weather])
    first = bound.invoke("q")
    return model, bound, [HumanMessage("q"), *back(first, "rain")]


def test_a_request_that_comes_again_gets_the_same_tool_calls(two_calls, model_server):
    _, bound, history = two_calls
    once, again = bound.invoke(history), bound.invoke(history)
    assert once.tool_calls == again.tool_calls
    assert bound.invoke([*history, *back(again, "sun")]).text == "rainsun"
    assert len(model_server.requests) == 1


def test_so_does_one_that_brings_some_of_the_results(model_server, rlm):
    threads = "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool:\n"
    model_server.script("root", [cell(f"{threads}    got = list(pool.map(weather, ['Bern', 'Rome']))\nSUBMIT(got)")])
    bound = rlm().bind_tools([weather], parallel_tool_calls=False)
    history = [HumanMessage("q"), *back(bound.invoke("q"), "rain")]
    once, again = bound.invoke(history), bound.invoke(history)
    assert once.tool_calls == again.tool_calls
    assert once.tool_calls[0]["args"] == {"city": "Rome"}
    assert bound.invoke([*history, *back(again, "sun")]).text == '["rain", "sun"]'
    assert len(model_server.requests) == 1


def test_other_results_for_a_run_that_has_gone_on_start_afresh(two_calls):
    _, bound, history = two_calls
    second = bound.invoke(history)
    changed = [*history[:-1], history[-1].model_copy(update={"content": "snow"})]
    assert bound.invoke(changed).text == "from the history"
    assert bound.invoke([*history, *back(second, "sun")]).text == "rainsun", "the first branch is not lost"


def test_a_request_that_comes_twice_at_once_runs_the_cell_once(two_calls, model_server):
    model, bound, history = two_calls
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(bound.invoke(history))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [call.tool_calls for call in answers] == [answers[0].tool_calls] * 4
    assert answers[0].tool_calls[0]["args"] == {"city": "Rome"}
    assert len(model_server.requests) == 1
    assert not model._runs.suspended._going_on


async def test_a_waiting_request_can_be_cancelled(two_calls):
    model, bound, history = two_calls
    suspended = model._runs.suspended
    thread = history[1].tool_calls[0]["id"].split("_")[1]
    list(suspended.take(thread))
    waiting = asyncio.create_task(bound.ainvoke(history))
    other = asyncio.create_task(bound.ainvoke(history))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    suspended.put_back(thread)
    assert (await other).tool_calls[0]["args"] == {"city": "Rome"}


# ------------------------------------------------------------------------------------------------ going away


def test_a_run_that_failed_before_any_tool_call_leaves_nothing(model_server, rlm):
    model_server.script("root", lambda m, r: server_error("gone", status=403))
    model = rlm()
    for _ in range(2):
        with pytest.raises(Exception, match="gone"):
            model.bind_tools([weather]).invoke("q")
    assert len(model._runs.suspended.saver.storage) <= 1


def test_a_run_that_expires_ends_its_worker(model_server, rlm):
    model_server.script("root", by_history)
    model = rlm(max_suspended=1)
    for _ in range(3):
        model.bind_tools([weather]).invoke("q")
    assert len(model._runs.graph.rlm.sessions) <= 2


def test_a_run_that_went_on_elsewhere_is_not_swept_here(model_server, rlm, tmp_path):
    turns = ["w = weather('Bern')", "SUBMIT(w + weather('Rome'))"]
    model_server.script("root", by_question({"Weather?": [cell(turn) for turn in turns], "Hello": [cell("SUBMIT(1)")]}))
    shared = {"checkpointer": InMemorySaver(), "store": ContentStore(tmp_path)}
    here, elsewhere = rlm(**shared), rlm(**shared)
    history = [HumanMessage("Weather?"), *back(here.bind_tools([weather]).invoke("Weather?"), "rain")]
    second = elsewhere.bind_tools([weather]).invoke(history)
    suspended = here._runs.suspended
    suspended._seconds = 0.0
    here.invoke("Hello")
    assert not len(suspended)
    assert elsewhere.bind_tools([weather]).invoke([*history, *back(second, "sun")]).text == "rainsun"


def test_a_saver_that_cannot_delete_does_not_lose_the_answer(model_server, rlm, caplog):
    class Stubborn(InMemorySaver):
        stubborn = True

        def delete_thread(self, thread_id):
            if self.stubborn:
                raise OSError("disk full")
            super().delete_thread(thread_id)

    model_server.script("root", [cell("SUBMIT(weather('Bern'))")])
    saver = Stubborn()
    model = rlm(checkpointer=saver)
    first = model.bind_tools([weather]).invoke("q")
    assert model.bind_tools([weather]).invoke([HumanMessage("q"), *back(first, "rain")]).text == "rain"
    assert "could not be deleted from Stubborn" in caplog.text
    saver.stubborn = False
    model.bind_tools([weather]).invoke("q")
    assert len(saver.storage) == 1, "it went with the next sweep"


async def test_a_cancelled_run_leaves_nothing(model_server, rlm):
    model_server.script(
        "root", lambda m, r: Reply("late", latency=60) if len(model_server.requests) < 2 else cell("SUBMIT(1)")
    )
    model = rlm()
    task = asyncio.create_task(model.bind_tools([weather]).ainvoke("q"))
    while not model_server.in_flight:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await model.bind_tools([weather]).ainvoke("q")
    assert not model._runs.suspended.saver.storage
