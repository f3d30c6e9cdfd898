"""Approval: a person or a function looks at cells and tool calls before they run."""

import asyncio
import threading
import time
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from rlm_adapters import Decision, InputError, Limits, create_rlm_graph
from tests.server import cell
from tests.server.scripts import question_text, text_of

THREAD = {"configurable": {"thread_id": "1"}}
APPROVE = {"decisions": [{"type": "approve"}]}


@pytest.fixture
def make(chat, sandbox):
    def make(**options: Any) -> Any:
        options.setdefault("checkpointer", InMemorySaver())
        return create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, **options)

    return make


def asked(result: Any) -> list[dict[str, Any]]:
    return [one.value for one in result["__interrupt__"]]


def turns(*cells):
    """A root LM that writes these replies, one a turn."""

    def reply(messages, _):
        turn = sum(message["role"] == "assistant" for message in messages)
        return cell(cells[turn]) if isinstance(cells[turn], str) else "\n\n".join(map(cell, cells[turn]))

    return reply


def test_a_cell_waits_for_approval_and_shows_what_it_is(model_server, make, run):
    model_server.script("root", turns("x = llm_query('what?')\nfor i in range(3):\n    llm_query(str(i))\nSUBMIT(x)"))
    model_server.script("sub", ["gold"] * 4)
    graph = make(approve="cells", limits=Limits(max_calls=9))
    result = run(graph, {"query": "q", "context": "c"}, THREAD)
    (request,) = asked(result)
    action = request["action_requests"][0]
    assert action["name"] == "run_cell"
    assert action["args"]["code"].startswith("x = llm_query('what?')")
    assert request["review_configs"] == [
        {"action_name": "run_cell", "allowed_decisions": ["approve", "edit", "reject"]}
    ]
    assert request["calls"] == [{"function": "llm_query", "line": 1}, {"function": "llm_query", "line": 3}]
    assert request["balance"] == "9 sub-calls"
    assert (request["kind"], request["depth"], request["iteration"]) == ("cell", 0, 1)
    assert model_server.requests_of("sub") == [], "nothing of it ran"
    result = run(graph, Command(resume=APPROVE), THREAD)
    assert (result["answer"], result["finish_reason"]) == ("gold", "submitted")


@pytest.mark.parametrize(
    "answer",
    [
        APPROVE,
        {"type": "approve"},
        [{"type": "approve"}],
        "approve",
        True,
        {"type": "approve_all"},
        "Approve_all ",
    ],
)
def test_forms_of_yes(model_server, make, run, answer):
    model_server.script("root", turns("SUBMIT(1)"))
    graph = make(approve="all")
    run(graph, {"query": "q"}, THREAD)
    assert run(graph, Command(resume=answer), THREAD)["answer"] == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"type": "aprove"}, "is no decision"),
        ({"type": ["approve"]}, "is no decision"),
        ("yes please", "is no decision"),
        (7, "is no decision"),
        ({"decisions": [{"type": "approve"}, {"type": "approve"}]}, "is no decision"),
        ({"type": "edit"}, "needs the arguments by name"),
        ({"type": "edit", "args": {"code": 7}}, 'an edited cell is {"code": "..."}'),
        ({"type": "edit", "args": {"code": "1", "more": 2}}, "an edited cell is"),
        ({"type": "edit", "edited_action": {"name": "shell", "args": {"code": "1"}}}, "cannot make 'shell'"),
        ({"type": "edit", "args": {1: 2}}, "needs the arguments by name"),
    ],
)
def test_an_answer_that_cannot_be_used_is_asked_for_again(model_server, make, run, answer, problem):
    model_server.script("root", turns("SUBMIT(1)"))
    graph = make(approve="cells")
    run(graph, {"query": "q"}, THREAD)
    (request,) = asked(run(graph, Command(resume=answer), THREAD))
    assert problem in request["problem"]
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == 1
    assert len(model_server.requests_of("root")) == 1


@pytest.mark.parametrize("reason", [{"message": "it reads the salaries"}, {"reason": "it reads the salaries"}, {}])
def test_a_rejected_cell_does_not_run_and_the_model_is_told_why(model_server, make, run, reason):
    model_server.script("root", turns(["x = llm_query('salaries')", "print(x)"], "SUBMIT('another way')"))
    graph = make(approve="cells")
    run(graph, {"query": "q"}, THREAD)
    (request,) = asked(run(graph, Command(resume={"type": "reject", **reason}), THREAD))
    assert "another way" in request["action_requests"][0]["args"]["code"], "the second block of the reply is gone too"
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == "another way"
    told = text_of(model_server.requests_of("root")[1].body["messages"][-1])
    assert (
        "Not approved, so this block did not run: " + ("it reads the salaries" if reason else "no reason was given")
        in told
    )
    assert model_server.requests_of("sub") == []


@pytest.mark.parametrize(
    "edit",
    [
        {"type": "edit", "edited_action": {"name": "run_cell", "args": {"code": "print('mine', 6 * 7)"}}},
        {"type": "edit", "args": {"code": "print('mine', 6 * 7)"}},
        {"type": "edit", "code": "print('mine', 6 * 7)"},
    ],
)
def test_an_edited_cell_is_what_runs_and_what_the_root_lm_sees(model_server, make, run, edit):
    model_server.script("root", turns("print('theirs')", "SUBMIT(1)"))
    graph = make(approve="cells")
    run(graph, {"query": "q"}, THREAD)
    run(graph, Command(resume=edit), THREAD)
    messages = model_server.requests_of("root")[1].body["messages"]
    assert "print('mine', 6 * 7)" in text_of(messages[-2])
    assert "theirs" not in text_of(messages[-2])
    assert "mine 42" in text_of(messages[-1])
    assert "edited by a person" in text_of(messages[-1])


def test_every_cell_of_a_reply_is_asked_for_and_none_runs_twice(model_server, make, run):
    model_server.script("root", turns(["a = llm_query('one')", "b = llm_query('two') + a", "print(b)"], "SUBMIT(b)"))
    model_server.script("sub", lambda messages, _: {"one": "1", "two": "2"}[text_of(messages[-1])])
    graph = make(approve="cells")
    result = run(graph, {"query": "q"}, THREAD)
    codes = []
    while "__interrupt__" in result:
        (request,) = asked(result)
        codes.append(request["action_requests"][0]["args"]["code"])
        result = run(graph, Command(resume="approve"), THREAD)
    assert codes == ["a = llm_query('one')", "b = llm_query('two') + a", "print(b)", "SUBMIT(b)"]
    assert result["answer"] == "21"
    assert len(model_server.requests_of("sub")) == 2


def test_the_rest_of_the_run_can_be_approved(model_server, make, run):
    model_server.script("root", turns(["a = 1", "b = a + 1"], "print(b)", "SUBMIT(b)"))
    graph = make(approve="cells")
    run(graph, {"query": "q"}, THREAD)
    assert run(graph, Command(resume={"type": "approve_all"}), THREAD)["answer"] == 2
    assert "__interrupt__" in run(graph, {"query": "again"}, THREAD), "a new question asks again"


def pay(amount: int, to: str = "me") -> str:
    """Pay."""
    PAID.append((amount, to))
    return f"paid {amount} to {to}"


PAID: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_paid():
    PAID.clear()


def test_a_tool_waits_for_approval_and_cells_do_not(model_server, make, run):
    model_server.script("root", turns("x = pay(5, to='you')", "SUBMIT(x)"))
    graph = make(approve="tools", tools=[pay])
    (request,) = asked(run(graph, {"query": "q"}, THREAD))
    assert request["action_requests"][0]["name"] == "pay"
    assert request["action_requests"][0]["args"] == {"amount": 5, "to": "you"}
    assert PAID == []
    assert run(graph, Command(resume=APPROVE), THREAD)["answer"] == "paid 5 to you"
    assert PAID == [(5, "you")]


def test_a_tool_call_can_be_edited_or_rejected(model_server, make, run):
    model_server.script(
        "root", turns("x = pay(500)\ntry:\n    pay(9)\nexcept ToolError as e:\n    SUBMIT([x, str(e)])")
    )
    graph = make(approve="tools", tools=[pay])
    run(graph, {"query": "q"}, THREAD)
    edit = {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 5, "to": "her"}}}
    run(graph, Command(resume=edit), THREAD)
    result = run(graph, Command(resume={"type": "reject", "message": "too late"}), THREAD)
    assert result["answer"] == ["paid 5 to her", "pay() was not approved: too late"]
    assert PAID == [(5, "her")]


def test_calls_that_leave_together_are_answered_one_by_one(model_server, make, run):
    model_server.script(
        "root",
        turns(
            "async def f(n):\n    return await pay(n)\nimport asyncio\nSUBMIT(await asyncio.gather(f(1), f(2), return_exceptions=True) and 0)"
        ),
    )
    graph = make(approve="tools", tools=[pay])
    result = run(graph, {"query": "q"}, THREAD)
    seen = 0
    while "__interrupt__" in result:
        answers = {one.id: "approve" for one in result["__interrupt__"]}
        seen += len(answers)
        result = run(graph, Command(resume=answers), THREAD)
    assert result["answer"] == 0
    assert seen == 2
    assert sorted(PAID) == [(1, "me"), (2, "me")]


def test_cells_of_child_runs_are_asked_for_at_the_top(model_server, make, run):
    def root(messages, _):
        if "inner" in question_text(messages):
            return cell("SUBMIT('from inside')")
        return cell("SUBMIT(rlm_query('inner'))")

    model_server.script("root", root)
    graph = make(approve="cells", limits=Limits(max_depth=2))
    first = asked(run(graph, {"query": "outer"}, THREAD))
    second = asked(run(graph, Command(resume="approve"), THREAD))
    assert [one["depth"] for one in (*first, *second)] == [0, 1]
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == "from inside"


def test_whoever_approves_the_rest_approves_the_children_in_it(model_server, make, run):
    def root(messages, _):
        if "inner" in question_text(messages):
            return cell("SUBMIT(1)")
        return cell("SUBMIT(rlm_query('inner a') + rlm_query('inner b'))")

    model_server.script("root", root)
    graph = make(approve="cells", limits=Limits(max_depth=2))
    run(graph, {"query": "outer"}, THREAD)
    assert run(graph, Command(resume="approve_all"), THREAD)["answer"] == 2


def test_a_cell_cannot_swallow_an_interrupt(model_server, make, run):
    code = "try:\n    x = pay(1)\nexcept BaseException:\n    x = 'swallowed'\nfinally:\n    print('finally')\nSUBMIT(x)"
    model_server.script("root", turns(code))
    graph = make(approve="all", tools=[pay])
    run(graph, {"query": "q"}, THREAD)
    assert asked(run(graph, Command(resume="approve"), THREAD))[0]["kind"] == "tool"
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == "paid 1 to me"


def test_waiting_counts_against_no_time_limit(model_server, make, run):
    model_server.script("root", turns("x = pay(1)\nSUBMIT(x)"))
    graph = make(approve="all", tools=[pay], limits=Limits(max_seconds=2))
    run(graph, {"query": "q"}, THREAD)
    time.sleep(1.2)
    run(graph, Command(resume="approve"), THREAD)
    time.sleep(1.2)
    assert run(graph, Command(resume="approve"), THREAD)["finish_reason"] == "submitted"


def test_a_function_that_takes_long_to_decide_counts_against_none_either(model_server, make, run):
    async def wait(_):
        await asyncio.sleep(2.5)
        return True

    model_server.script("root", turns("SUBMIT(1)"))
    graph = make(approve=wait, limits=Limits(max_seconds=2), checkpointer=None)
    assert run(graph, {"query": "q"}, {})["finish_reason"] == "submitted"


async def test_a_function_that_blocks_does_not_hold_up_the_event_loop(model_server, make):
    threads = []

    def judge(_):
        threads.append(threading.current_thread())
        time.sleep(0.2)
        return True

    model_server.script("root", turns("SUBMIT(1)"))
    result = await make(approve=judge, checkpointer=None).ainvoke({"query": "q"})
    assert result["answer"] == 1
    assert threads[0] is not threading.main_thread()


def test_a_function_decides_and_needs_no_saver(model_server, make, run):
    seen = []

    def judge(request):
        seen.append(
            (request.kind, request.name, request.code[:7], dict(request.args) if request.kind == "tool" else {})
        )
        if request.kind == "tool":
            return request.args["amount"] < 10
        return Decision("reject", message="no imports") if "import" in request.code else "approve"

    model_server.script(
        "root", turns("import os", "x = pay(5)\ntry:\n    pay(50)\nexcept ToolError as e:\n    SUBMIT(str(e))")
    )
    graph = make(approve=judge, tools=[pay], checkpointer=None)
    assert run(graph, {"query": "q"}, {})["answer"] == "pay() was not approved: no reason was given"
    assert [one[:2] for one in seen] == [("cell", "run_cell"), ("cell", "run_cell"), ("tool", "pay"), ("tool", "pay")]
    assert "no imports" in text_of(model_server.requests_of("root")[1].body["messages"][-1])
    assert PAID == [(5, "me")]


@pytest.mark.parametrize("answer", [None, "ask"])
def test_a_function_can_have_a_person_asked(model_server, make, run, answer):
    model_server.script("root", turns("SUBMIT(1)"))
    graph = make(approve=lambda _: answer)
    assert asked(run(graph, {"query": "q"}, THREAD))
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == 1


@pytest.mark.parametrize(
    ("own", "asked_for", "waits"),
    [
        (None, "cells", ["cell"]),
        (None, "tools", ["tool"]),
        ("cells", "tools", ["cell", "tool"]),
        ("tools", "tools", ["tool"]),
        ("all", "cells", ["cell", "tool"]),
        (lambda _: True, "cells", ["cell"]),
        (lambda _: True, "all", ["cell", "tool"]),
        (lambda request: "ask" if request.kind == "tool" else True, "cells", ["cell", "tool"]),
    ],
)
def test_a_caller_can_ask_for_more_and_not_for_less(model_server, make, run, own, asked_for, waits):
    model_server.script("root", turns("SUBMIT(pay(1))"))
    graph = make(approve=own, tools=[pay])
    result, seen = run(graph, {"query": "q"}, THREAD, context={"approve": asked_for}), []
    while "__interrupt__" in result:
        seen += [one["kind"] for one in asked(result)]
        result = run(graph, Command(resume="approve"), THREAD, context={"approve": asked_for})
    assert seen == waits
    assert result["answer"] == "paid 1 to me"


def test_a_caller_cannot_undo_what_a_function_refuses(model_server, make, run):
    async def never(_):
        return False

    model_server.script("root", turns("SUBMIT(1)", "SUBMIT(2)"))
    graph = make(approve=never, limits=Limits(max_iterations=1))
    result = run(graph, {"query": "q"}, THREAD, context={"approve": "cells"})
    assert result["finish_reason"] == "max_iterations"


def test_what_cannot_work_says_so(model_server, make, run):
    with pytest.raises(InputError, match="approve='cell' is unknown: use \"cells\""):
        make(approve="cell")
    model_server.script("root", turns("SUBMIT(1)"))
    with pytest.raises(InputError, match="nothing saves it: give a checkpointer"):
        run(make(approve="cells", checkpointer=None), {"query": "q"}, {})
    with pytest.raises(InputError, match="returned 'perhaps'"):
        run(make(approve=lambda _: "perhaps"), {"query": "q"}, THREAD)


def test_a_tool_of_its_own_may_interrupt_beside_the_approval(model_server, make, run):
    def ask(question: str) -> str:
        """Ask a person."""
        return str(interrupt({"question": question}))

    model_server.script("root", turns("SUBMIT(ask('colour?'))"))
    graph = make(approve="tools", tools=[ask])
    assert asked(run(graph, {"query": "q"}, THREAD))[0]["action_requests"][0]["name"] == "ask"
    assert asked(run(graph, Command(resume="approve"), THREAD)) == [{"question": "colour?"}]
    assert run(graph, Command(resume="green"), THREAD)["answer"] == "green"


def test_another_process_goes_on(model_server, chat, sandbox, tmp_path, make):
    model_server.script("root", turns("x = len(context)", "SUBMIT(x)"))
    with SqliteSaver.from_conn_string(str(tmp_path / "db.sqlite")) as saver:
        first = make(approve="cells", checkpointer=saver)
        first.invoke({"query": "q", "context": "c" * 50_000}, THREAD)
        second = create_rlm_graph(
            chat("root"), chat("sub"), checkpointer=saver, approve="cells", sandbox=sandbox, store=first.rlm.store
        )
        assert asked(second.invoke(Command(resume="approve"), THREAD))
        assert second.invoke(Command(resume="approve"), THREAD)["answer"] == 50_000


class Around(TypedDict, total=False):
    query: str
    answer: Any


def test_inside_a_larger_graph(model_server, make, run):
    model_server.script("root", turns("SUBMIT(1)"))
    builder = StateGraph(Around)
    builder.add_node("rlm", make(approve="cells", checkpointer=None))
    builder.add_edge(START, "rlm")
    graph = builder.compile(checkpointer=InMemorySaver())
    assert asked(run(graph, {"query": "q"}, THREAD))
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == 1


def test_an_edit_of_the_state_cannot_approve_what_it_is_not(model_server, make):
    model_server.script("root", turns("SUBMIT(1)"))
    graph = make(approve="cells")
    graph.invoke({"query": "q"}, THREAD)
    graph.update_state(THREAD, {"approved": "yes"}, as_node="generate_code")
    with pytest.raises(InputError, match="approved"):
        graph.invoke(None, THREAD)
