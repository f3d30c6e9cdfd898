"""A trajectory tells what a run did, whether it is made of events, of a trace, of a checkpoint, or of its own dict."""

import asyncio
import json
import random

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import ChatRLM, InputError, Trajectory, create_rlm_graph
from rlm_adapters.events import EVENT_TYPES, Event
from tests.server import cell, server_error
from tests.traces.runs import QUESTION, varied


@pytest.fixture
def events(model_server, chat, sandbox):
    """What a run with everything in it tells."""
    return varied(model_server, chat, sandbox)


def check(trajectory):
    assert str(trajectory.question) == QUESTION
    assert (trajectory.status, trajectory.finish_reason) == ("ok", "submitted")
    assert trajectory.answer == "found7found"
    assert [one.number for one in trajectory.iterations] == [1, 2]
    first, second = trajectory.cells
    assert (first.status, second.status) == ("failed", "ok")
    assert str(first.output) == "3\n"
    assert "ZeroDivisionError" in str(first.error)
    assert str(first.reasoning) == "I first look."
    assert [(call.function, call.kind, call.status) for call in second.calls] == [
        *[("llm_query", "llm", "ok")] * 4, ("lookup", "tool", "ok"), ("rlm_query", "child", "ok")
    ]  # fmt: skip
    batch = sorted((str(call.prompt), str(call.answer)) for call in second.calls[:3])
    assert batch == [("words " * 400 + str(number), "found") for number in range(3)]
    number = second.calls[3]
    assert (str(number.answer), len(number.repairs)) == ("7", 1)
    assert (len(number.retries), number.attempts) == (2, 4)
    child = second.calls[5].child
    assert (str(child.question), child.depth, child.answer) == ("inner?", 1, "found")
    assert [str(call.prompt) for call in child.calls] == ["deep found"]


def test_it_is_made_of_events(events):
    trajectory = Trajectory.from_events(events)
    check(trajectory)
    assert isinstance(trajectory.cells[1].calls[5].child, Trajectory)


def test_its_dict_is_json_and_makes_it_again(events):
    trajectory = Trajectory.from_events(events)
    given = json.loads(json.dumps(trajectory.to_dict()))
    back = Trajectory.from_dict(given)
    check(back)
    assert back.to_dict() == trajectory.to_dict()


def test_its_events_make_it_again(events):
    trajectory = Trajectory.from_events(events)
    again = trajectory.to_events()
    assert Trajectory.from_events(again).to_dict() == trajectory.to_dict()
    assert {event.type for event in again} == {event.type for event in events}


def test_its_totals_are_what_the_run_counted(events):
    trajectory = Trajectory.from_events(events)
    total, usage = trajectory.totals(), trajectory.usage
    assert (total.root_calls, total.calls) == (3, 5)
    # The ledger counts a child's turns as sub-calls, and a call whose answer was repaired twice.
    assert total.root_calls + total.calls + 1 == usage["root_calls"] + usage["calls"]
    assert (total.tools, total.children, total.failed) == (1, 1, 0)
    assert (total.input_tokens, total.output_tokens) == (usage["input_tokens"], usage["output_tokens"])
    assert total.cost == pytest.approx(usage["cost"])
    models = trajectory.by_model()
    assert set(models) == {"root", "sub"}
    for name, sums in models.items():
        assert sums.input_tokens == usage["by_model"][name]["input_tokens"]
    assert total.retries == models["sub"].retries == 6
    assert 0 < trajectory.iterations[0].seconds <= trajectory.seconds


def test_its_messages_are_what_the_root_lm_was_sent(events, model_server):
    messages = Trajectory.from_events(events).to_messages()
    sent = [one for one in model_server.requests if one.model == "root" and "inner?" not in json.dumps(one.messages[1])]
    assert messages[:-1] == [{"role": one["role"], "content": one["content"]} for one in sent[-1].messages]
    assert messages[-1]["role"] == "assistant"
    assert "rlm_query" in messages[-1]["content"]


def test_without_recorded_messages_they_are_the_question_the_replies_and_the_outputs(events):
    short = [event.with_heads() for event in events]
    messages = Trajectory.from_events(short).to_messages()
    assert [one["role"] for one in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == QUESTION
    assert "ZeroDivisionError" in messages[2]["content"]


def test_its_steps_are_those_of_dspy(events):
    steps = Trajectory.from_events(events).to_steps()
    assert [set(step) for step in steps] == [{"reasoning", "code", "output"}] * 2
    assert steps[0]["reasoning"] == "I first look."
    assert "ZeroDivisionError" in steps[0]["output"]


def test_heads_of_texts_know_how_long_they_were(events):
    call = Trajectory.from_events([event.with_heads() for event in events]).calls[0]
    assert (call.prompt.chars, len(call.prompt.head)) == (2_401, 300)
    assert "2,101 more characters" in str(call.prompt)


def test_it_is_shown_as_the_run_was(events, capsys):
    Trajectory.from_events(events).show()
    shown = capsys.readouterr().err
    for part in (QUESTION, "I first look.", "ZeroDivisionError", "[child 1: question]", "found7found", "2 iterations"):
        assert part in shown


# Where it comes from


def test_it_is_read_from_a_trace_and_its_texts_when_asked(model_server, chat, sandbox, tmp_path):
    model_server.script("root", [cell("SUBMIT(llm_query('p' * 5_000))")])
    model_server.script("sub", lambda messages, request: "s" * 5_000)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, trace=tmp_path / "run.jsonl")
    for question in ("one", "two", "three"):
        graph.invoke({"query": question})
    trajectory = Trajectory.from_trace(tmp_path / "run.jsonl")
    (call,) = trajectory.calls
    assert (call.prompt.head, call.prompt.chars, str(call.prompt)) == ("p" * 300, 5_000, "p" * 5_000)
    assert trajectory.answer == "s" * 5_000
    assert [str(Trajectory.from_trace(tmp_path / "run.jsonl", run).question) for run in (0, 1, 2, -2)] == [
        "one", "two", "three", "two"
    ]  # fmt: skip
    assert Trajectory.from_trace(tmp_path / "run.jsonl", trajectory.run_id[:12]).run_id == trajectory.run_id
    with pytest.raises(InputError, match=r"run=3: there are 3 runs in .*run.jsonl: [0-9a-f]{8}, "):
        Trajectory.from_trace(tmp_path / "run.jsonl", 3)
    with pytest.raises(InputError, match="run='zz'"):
        Trajectory.from_trace(tmp_path / "run.jsonl", "zz")


@pytest.fixture
def saved(model_server, chat, sandbox):
    """A graph with a saver whose second cell asks two sub-LMs, of which one fails the first time."""

    def sub(messages, request):
        return (
            server_error(status=401)
            if "b" in messages[-1]["content"] and broken
            else f"answer {messages[-1]['content']}"
        )

    broken = [True]
    code = "found = [llm_query('a'), llm_query('b')]\nprint(found)"
    model_server.script("root", ["I look.\n" + cell("print(1)") + cell("print(2)"), cell(code), cell("SUBMIT('done')")])
    model_server.script("sub", sub)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=InMemorySaver(), parallel="off")
    return graph, broken


CONFIG = {"configurable": {"thread_id": "t"}}


def test_it_is_read_from_a_checkpoint(saved):
    graph, broken = saved
    broken.clear()
    graph.invoke({"query": QUESTION, "context": "abc"}, CONFIG)
    trajectory = Trajectory.from_checkpoint(graph, CONFIG)
    assert (str(trajectory.question), trajectory.answer, trajectory.status) == (QUESTION, "done", "ok")
    assert [one["name"] for one in trajectory.inputs] == ["context"]
    assert [len(one.cells) for one in trajectory.iterations] == [2, 1, 1]
    assert [str(one.code) for one in trajectory.cells[:2]] == ["print(1)", "print(2)"]
    assert str(trajectory.iterations[0].reply).startswith("I look.")
    assert "2" in str(trajectory.iterations[0].observation)
    assert [str(call.answer) for call in trajectory.calls] == ["answer a", "answer b"]
    assert trajectory.usage["calls"] == 2
    assert {one.status for one in trajectory.iterations} == {one.status for one in trajectory.cells} == {"ok"}
    assert trajectory.to_messages()[1]["content"].startswith("I look.")
    again = asyncio.run(Trajectory.afrom_checkpoint(graph, CONFIG))
    assert again.to_dict() == trajectory.to_dict()


def test_of_a_thread_with_several_questions_it_is_the_last_one(saved):
    graph, broken = saved
    broken.clear()
    for question in ("before", QUESTION):
        graph.invoke({"query": question, "context": "abc"}, CONFIG)
    trajectory = Trajectory.from_checkpoint(graph, CONFIG)
    assert str(trajectory.question) == QUESTION
    assert [len(one.cells) for one in trajectory.iterations] == [2, 1, 1]
    assert [one.id for one in trajectory.cells] == ["cell-4", "cell-5", "cell-6", "cell-7"]


def test_a_run_that_stopped_in_a_cell_is_read_from_its_checkpoint(saved):
    graph, _ = saved
    with pytest.raises(Exception, match="401"):
        graph.invoke({"query": QUESTION, "context": "abc"}, CONFIG)
    trajectory = Trajectory.from_checkpoint(graph, CONFIG)
    assert trajectory.status == "running"
    assert [len(one.cells) for one in trajectory.iterations] == [2, 1]
    waiting = trajectory.cells[-1]
    assert waiting.status == "running"
    assert "llm_query('b')" in str(waiting.code)
    assert {str(call.prompt): call.status for call in waiting.calls}["b"] == "running"


def test_what_has_no_run_is_refused(saved, chat, sandbox):
    graph, _ = saved
    with pytest.raises(InputError, match="this thread has no run"):
        Trajectory.from_checkpoint(graph, {"configurable": {"thread_id": "another"}})
    with pytest.raises(InputError, match="no checkpointer"):
        Trajectory.from_checkpoint(create_rlm_graph(chat("root"), sandbox=sandbox), CONFIG)
    with pytest.raises(InputError, match="graph=str: give the graph"):
        Trajectory.from_checkpoint("graph", CONFIG)
    with pytest.raises(InputError, match="there is no run in these events"):
        Trajectory.from_events([])


# With the result


def test_the_result_of_a_graph_has_it_when_asked_for(model_server, chat, sandbox):
    model_server.script("root", [cell("SUBMIT(llm_query('a'))")])
    model_server.script("sub", lambda messages, request: "b")
    models = chat("root"), chat("sub")
    assert "trajectory" not in create_rlm_graph(*models, sandbox=sandbox).invoke({"query": "q"})
    graph = create_rlm_graph(*models, sandbox=sandbox, trajectory=True)
    results = [graph.invoke({"query": "q"}), asyncio.run(graph.ainvoke({"query": "q"}))]
    for result in results:
        trajectory = Trajectory.from_dict(json.loads(json.dumps(result["trajectory"])))
        assert [str(call.answer) for call in trajectory.calls] == ["b"]
        assert trajectory.answer == result["answer"] == "b"
    assert len({result["trajectory"]["run_id"] for result in results}) == 2


@pytest.mark.parametrize("form", ["run", "short"])
def test_a_message_has_it_when_asked_for(model_server, chat, sandbox, form):
    model_server.script("root", [cell("SUBMIT(llm_query('a'))") if form == "run" else "b"])
    model_server.script("sub", lambda messages, request: "b")
    below = {"direct_below": 0} if form == "run" else {}
    model = ChatRLM(chat("root"), chat("sub"), sandbox=sandbox, trajectory=True, **below)

    async def streamed():
        return [chunk async for chunk in model.astream("q")]

    whole = [model.invoke("q"), asyncio.run(model.ainvoke("q"))]
    for chunks in (list(model.stream("q")), asyncio.run(streamed())):
        total = chunks[0]
        for chunk in chunks[1:]:
            total += chunk
        whole.append(total)
    for message in whole:
        trajectory = Trajectory.from_dict(message.response_metadata["trajectory"])
        assert (trajectory.answer, message.text) == ("b", "b")
        assert len(trajectory.calls) == (form == "run")
    assert "trajectory" not in ChatRLM(chat("root"), sandbox=sandbox, **below).invoke("q").response_metadata


def test_a_prediction_has_it_when_asked_for(model_server):
    dspy = pytest.importorskip("dspy")
    from rlm_adapters import RLM

    code = "```python\nSUBMIT(answer=llm_query('a'))\n```"
    model_server.script(
        "root", lambda *_: f"[[ ## reasoning ## ]]\nI ask.\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"
    )
    model_server.script("sub", lambda *_: "b")
    lm, sub = (
        dspy.LM(f"openai/{name}", api_base=model_server.url, api_key="x", cache=False) for name in ("root", "sub")
    )
    with dspy.context(lm=lm):
        plain = RLM("question -> answer", sub_lm=sub)(question="q")
        asked = RLM("question -> answer", sub_lm=sub, trajectory=True).deepcopy()(question="q")
    assert "trajectory" not in plain.rlm
    trajectory = Trajectory.from_dict(asked.rlm["trajectory"])
    (call,) = trajectory.calls
    assert (str(call.prompt), str(call.answer), call.model) == ("a", "b", "openai/sub")
    assert [step["code"] for step in trajectory.to_steps()] == [step["code"] for step in asked.trajectory]


# What is torn, old, or somebody else's


def test_a_run_that_was_cut_off_anywhere_tells_what_there_was(events):
    whole = Trajectory.from_events(events)
    for end in range(1, len(events)):
        part = Trajectory.from_events(events[:end])
        assert part.run_id == whole.run_id
        assert part.status == "running"
        assert len(part.cells) <= len(whole.cells)
        assert part.to_dict()
        assert part.totals().calls <= whole.totals().calls
        assert Trajectory.from_dict(part.to_dict()).to_dict() == part.to_dict()


def test_a_run_of_which_any_events_are_missing_can_be_looked_at(events):
    dice = random.Random(7)
    for _ in range(200):
        kept = [event for event in events if dice.random() < 0.6] or events[:1]
        for trajectory in Trajectory.all_of(kept):
            trajectory.to_dict()
            trajectory.to_events()
            trajectory.to_messages()
            trajectory.totals()


WRONG = [None, 3, -1, "x", [], {}, [1], {"a": 1}, float("nan"), True, "\ud800", 10**400]


def test_values_of_any_type_in_an_event_break_nothing(events):
    dice = random.Random(5)
    keys = sorted({key for event in events for key in event.data})
    for _ in range(300):
        made = []
        for event in events:
            data = dict(event.data)
            for _ in range(dice.randint(0, 3)):
                data[dice.choice(keys)] = dice.choice(WRONG)
            names = {"id": event.id, "parent": event.parent}
            if dice.random() < 0.1:
                names = {name: dice.choice([None, "", "x", event.run_id]) for name in names}
            kind = dice.choice(sorted(EVENT_TYPES)) if dice.random() < 0.05 else event.type
            made.append(Event(type=kind, run_id=event.run_id, depth=event.depth, time=event.time, data=data,
                              parent_run_id=event.parent_run_id, iteration=event.iteration, **names))  # fmt: skip
        for trajectory in Trajectory.all_of(made):
            trajectory.to_dict()
            trajectory.totals()
            trajectory.to_messages()
            trajectory.to_steps()
            Trajectory.all_of(trajectory.to_events())


def test_runs_within_runs_without_end_break_nothing():
    events = [
        Event(type="run_started", run_id=str(number), parent_run_id=str(number - 1) if number else None)
        for number in range(3_000)
    ]
    for trajectory in Trajectory.all_of(events):
        trajectory.to_dict()
        trajectory.totals()


@pytest.mark.parametrize("given", [None, [], "x", {}, {"form": 99}])
def test_a_dict_that_is_none_is_refused(given):
    with pytest.raises(InputError, match="not a trajectory"):
        Trajectory.from_dict(given)


def test_a_dict_with_wrong_parts_gives_what_is_right():
    deep = {"calls": [{"id": "c", "kind": 3, "prompt": ["a"], "child": {"iterations": "x"}}, 5]}
    given = {"form": 1, "run_id": 3, "iterations": [{"number": "one", "cells": [deep, None]}, "x"], "limits": []}
    trajectory = Trajectory.from_dict(given)
    assert (trajectory.run_id, trajectory.limits, trajectory.iterations[0].number) == ("", {}, None)
    assert str(trajectory.calls[0].prompt) == '["a"]'


def test_children_without_end_in_a_dict_are_cut():
    given = {"form": 1}
    for _ in range(500):
        given = {"form": 1, "iterations": [{"cells": [{"calls": [{"child": given}]}]}]}
    depth, run = 0, Trajectory.from_dict(given)
    while run is not None and run.calls:
        depth, run = depth + 1, run.calls[0].child
    assert 10 < depth < 100


def test_events_of_version_1_make_one(events):
    old = [
        Event(type=event.type, run_id=event.run_id, parent_run_id=event.parent_run_id, depth=event.depth,
              iteration=event.iteration, time=event.time, data={
                  key: value for key, value in event.data.items() if key in V1[event.type]
              })
        for event in events if event.type in V1
    ]  # fmt: skip
    trajectory = Trajectory.from_events(old)
    assert (str(trajectory.question), trajectory.answer, trajectory.status) == (QUESTION, "found7found", "ok")
    assert [one.status for one in trajectory.cells] == ["failed", "ok"]
    assert [call.child is not None for call in trajectory.calls].count(True) == 1
    assert [call.status for call in trajectory.calls if call.child is None].count("ok") >= 5
    assert trajectory.totals().calls >= 5


V1 = {
    "run_started": {"query", "inputs", "model", "sub_model", "max_iterations"},
    "iteration_started": {"prompt_chars", "used"},
    "code": {"code", "reasoning"},
    "cell_output": {"stdout", "stdout_chars", "error", "seconds", "replaced"},
    "calls_started": {"count", "function", "ahead"},
    "call_finished": {"function", "total", "usage", "error", "cached"},
    "child_started": {"query"},
    "warning": {"message", "retry"},
    "repair": {"reason", "message", "reply"},
    "final": {"answer", "function"},
    "run_finished": {"finish_reason", "usage", "answer", "iterations", "seconds", "error"},
}
