"""Whole runs over HTTP: what a caller sees of the graph."""

import pytest

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.sandbox.host.workers import Held
from tests.server import cell, cut_off, refused

BOOK = "\n".join(f"Line {i}: " + ("the vault code is 7319" if i == 4200 else "nothing here") for i in range(20_000))


def test_the_answer_comes_from_an_input_that_never_enters_a_prompt(model_server, chat, sandbox, run):
    model_server.script(
        "root",
        [
            cell("print(type(context).__name__, len(context))"),
            cell("import re\nhit = re.search(r'vault code is (\\d+)', context)\nprint(hit.group(0))"),
            cell("SUBMIT(hit.group(1))"),
        ],
    )
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "What is the vault code?", "context": BOOK})
    assert result["answer"] == "7319"
    assert result["finish_reason"] == "submitted"
    assert result["iterations"] == 3
    assert result["usage"]["root_calls"] == 3
    assert max(len(str(record.messages)) for record in model_server.requests) < 6_000


def test_the_output_of_a_cell_and_the_question_come_back_to_the_root(model_server, chat, sandbox, run):
    model_server.script("root", [cell("print('seen', 6 * 7)"), cell("SUBMIT(1)")])
    run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "Why is it so?", "context": "abc"})
    first, second = (record.messages for record in model_server.requests)
    assert second[: len(first)] == first, "the history is append-only"
    assert "seen 42" in second[-1]["content"]
    assert "Why is it so?" in second[-1]["content"]


def test_sub_calls_of_a_batch_are_in_flight_together_and_come_back_in_order(model_server, chat, sandbox, run):
    model_server.script(
        "root", [cell("answers = llm_query_batched([f'item {i}' for i in range(40)])\nSUBMIT(answers)")]
    )
    model_server.script("sub", lambda messages, request: messages[-1]["content"].upper())
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=Limits(max_concurrency=20), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["answer"] == [f"ITEM {i}" for i in range(40)]
    assert result["usage"]["calls"] == 40
    assert set(result["usage"]["by_model"]) == {"root", "sub"}


def test_a_tool_is_called_where_the_cell_calls_it(model_server, chat, sandbox, run):
    from langchain_core.tools import tool

    seen = []

    @tool
    def weather(city: str, unit: str = "C") -> dict:
        """Weather of a city."""
        seen.append((city, unit))
        return {"city": city, "degrees": 21, "unit": unit}

    async def population(city: str) -> int:
        """People in a city."""
        return len(city) * 1000

    model_server.script(
        "root",
        [
            cell(
                "w = weather('Bern', unit='F')\np = population(city='Bern')\n"
                "try:\n    weather()\nexcept Exception as e:\n    print(type(e).__name__)\nSUBMIT([w['degrees'], w['unit'], p])"
            )
        ],
    )
    graph = create_rlm_graph(chat("root"), tools=[weather, population], sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "x"})["answer"] == [21, "F", 4000]
    assert seen == [("Bern", "F")]


def test_a_child_run_has_its_own_repl_and_stands_in_the_event_tree(model_server, chat, sandbox, run):
    def root(messages, request):
        if "count the vowels" in messages[1]["content"]:
            return cell("mine = 'child'\nSUBMIT(str(sum(c in 'aeiou' for c in context)))")
        return cell("mine = 'parent'\nn = rlm_query('count the vowels', context)\nSUBMIT(f'{mine} {n}')")

    model_server.script("root", root)
    events = []
    graph = create_rlm_graph(chat("root"), limits=Limits(max_depth=2), sandbox=sandbox, on_event=events.append)
    result = run(graph, {"query": "How many vowels?", "context": "education " * 1000})
    assert result["answer"] == "parent 5000"
    started = [event for event in events if event.type == "run_started"]
    assert [event.depth for event in started] == [0, 1]
    assert started[1].parent_run_id == started[0].run_id
    assert result["usage"]["calls"] == 1
    assert result["usage"]["root_calls"] == 1


def test_at_the_last_depth_a_recursive_query_is_one_plain_call(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT(rlm_query('say it', 'the context'))")])
    model_server.script("sub", lambda messages, request: "got: " + messages[-1]["content"])
    result = run(create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox), {"query": "q", "context": "x"})
    assert "say it" in result["answer"]
    assert "the context" in result["answer"]


def test_an_answer_of_the_wrong_type_goes_back_to_the_model(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT('many')"), cell("SUBMIT(12)")])
    graph = create_rlm_graph(chat("root"), output_type=int, sandbox=sandbox)
    result = run(graph, {"query": "How many?", "context": "x"})
    assert result["answer"] == 12
    assert "refused" in model_server.requests[1].messages[-1]["content"]


def test_replies_without_code_are_repaired_and_counted(model_server, chat, sandbox, run):
    model_server.script(
        "root",
        ["", "I would look at the text first.", cut_off("```repl\nprint("), cell("print(1"), cell("SUBMIT('ok')")],
    )
    events = []
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, on_event=events.append)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["answer"] == "ok"
    assert result["iterations"] == 5
    assert [event.type for event in events].count("repair") == 3


def test_a_model_that_only_refuses_ends_in_a_labelled_error(model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: refused("I cannot do that."))
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "q", "context": "x"})
    assert result["finish_reason"] == "error"
    assert result["answer"] is None
    assert "refusal" in result["error"]


PROSE = ["I will look at the text first.", "The winner is Ada. She came first.", "What do you mean?", ""]


def test_an_answer_in_plain_words_is_handed_back_and_labelled(model_server, chat, sandbox, run):
    model_server.script("root", PROSE)
    events = []
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, on_event=events.append)
    result = run(graph, {"query": "Who won?", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == (PROSE[1], "unsubmitted")
    assert "4 replies in a row could not be used (last: empty)" in result["error"]
    assert "worked_example=True" in result["error"]
    told = [event.data for event in events if event.type == "repair"]
    assert [one.get("reply") for one in told] == [PROSE[0], PROSE[1], PROSE[2], None]


def test_an_answer_that_was_noted_on_the_way_goes_before_what_was_said_last(model_server, chat, sandbox, run):
    model_server.script("root", ["The final answer is Ada.", *["She is good."] * 3])
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "Who won?", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == ("Ada", "unsubmitted")


@pytest.mark.parametrize("reply", ["I will search for it now.", "Could you send the text?", "Let me think:"])
def test_a_plan_or_a_question_is_no_answer_but_is_quoted(reply, model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: reply)
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "Who won?", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == (None, "error")
    assert f"The last one begins: {reply!r}" in result["error"]


def test_plain_words_are_no_answer_where_a_type_is_asked_for(model_server, chat, sandbox, run):
    replies = ["There are many.", "SUBMIT('many')", "SUBMIT('many')", "SUBMIT('lots')"]
    model_server.script("root", replies)
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox, output_type=int), {"query": "q", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == (None, "error")
    assert "last: invalid_answer: value: Input should be a valid integer" in result["error"]
    assert "'lots'" in result["error"]
    assert "output_type" in result["error"]


def test_what_does_not_fit_at_a_limit_is_told(model_server, chat, sandbox, run):
    model_server.script("root", lambda m, r: "Many." if "The run ends here" in str(m[-1]) else cell("print(1)"))
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, output_type=int, limits=Limits(max_iterations=1))
    result = run(graph, {"query": "q", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == (None, "max_iterations")
    assert "does not fit: value: Input should be a valid integer" in result["error"]


def test_text_finish_outside_a_code_block_ends_the_run_and_one_inside_does_not(model_server, chat, sandbox, run):
    model_server.script("root", [cell('s = """FINAL(no)"""\nprint(s)'), "FINAL(yes, it is)"])
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "q", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == ("yes, it is", "text")


def test_final_var_in_text_gives_the_value_of_the_variable(model_server, chat, sandbox, run):
    model_server.script("root", [cell("report = 'a' * 5000"), "FINAL_VAR(report)"])
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "q", "context": "x"})
    assert result["answer"] == "a" * 5000


def test_a_final_value_survives_a_finally_that_returns(model_server, chat, sandbox, run):
    code = "def f():\n    try:\n        SUBMIT('kept')\n    finally:\n        return 'lost'\nf()"
    model_server.script("root", [cell(code)])
    result = run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "q", "context": "x"})
    assert result["answer"] == "kept"


def test_an_input_given_whole_to_a_sub_call_arrives_as_its_text(model_server, chat, sandbox, run):
    def shout(text: str) -> int:
        """Length of a text."""
        return len(text)

    model_server.script("root", [cell("SUBMIT([llm_query(context), shout(context)])")])
    model_server.script("sub", lambda messages, request: f"{len(messages[-1]['content'])} characters")
    graph = create_rlm_graph(chat("root"), chat("sub"), tools=[shout], sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x" * 9_000})
    assert result["answer"] == ["9000 characters", 9000]


def test_several_children_each_get_their_own_context(model_server, chat, sandbox, run):
    def root(messages, request):
        if "how long" in messages[1]["content"]:
            return cell("SUBMIT(len(context))")
        return cell("SUBMIT(rlm_query_batched(['how long'] * 3, ['a', 'bb' * 3000, context]))")

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), limits=Limits(max_depth=2), sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "c" * 50_000})["answer"] == [1, 6000, 50_000]


def test_a_tool_gets_inputs_as_they_are_and_dicts_that_look_like_them_as_dicts(model_server, chat, sandbox, run):
    seen = []

    def keep(value: object) -> str:
        """Keep a value."""
        seen.append(value)
        return "kept"

    code = "keep(context)\nkeep({'$input': 'context'})\nkeep(value={'$input': 'no such input'})\nSUBMIT('done')"
    model_server.script("root", [cell(code)])
    graph = create_rlm_graph(chat("root"), tools=[keep], sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "x" * 9_000})["answer"] == "done"
    assert seen == ["x" * 9_000, {"$input": "context"}, {"$input": "no such input"}]


def test_closing_a_graph_leaves_a_sandbox_that_it_was_given(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT(1)")])
    first, second = (create_rlm_graph(chat("root"), sandbox=sandbox) for _ in range(2))
    run(first, {"query": "q", "context": "x"})
    first.close()
    assert run(second, {"query": "q", "context": "x"})["answer"] == 1


def test_children_share_their_parents_big_input_and_other_runs_do_not(model_server, chat, sandbox, run, monkeypatch):
    holders = []
    make = Held._make
    monkeypatch.setattr(Held, "_make", lambda held: holders.append(held) or make(held))

    def root(messages, request):
        if "how long" in messages[1]["content"]:
            return cell("SUBMIT(len(context))")
        return cell("SUBMIT(rlm_query_batched(['how long'] * 3, [context, context, 'small']))")

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), limits=Limits(max_depth=2), sandbox=sandbox)
    for count in (1, 2):
        result = run(graph, {"query": "q", "context": "x" * 8_000_000})
        assert result["answer"] == [8_000_000, 8_000_000, 5]
        assert len(holders) == count


def test_what_a_failed_child_used_is_counted(model_server, chat, sandbox, run):
    from tests.server import server_error

    def root(messages, request):
        if "break" not in messages[1]["content"]:
            return cell("try:\n    rlm_query('break')\nexcept SubCallError as e:\n    SUBMIT(e.kind)")
        return cell("print(1)") if len(messages) < 4 else server_error("gone", status=400)

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), limits=Limits(max_depth=2), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["answer"] == "bad_request"
    assert result["usage"]["calls"] == 1
    assert len(graph.rlm.sessions) == 0


def test_a_short_input_is_answered_by_one_direct_call_when_that_is_on(model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: "It rains.")
    graph = create_rlm_graph(chat("root"), direct_below=1_000, sandbox=sandbox)
    result = run(graph, {"query": "How is the weather?", "context": "Rain all day."})
    assert (result["answer"], result["finish_reason"], result["usage"]["root_calls"]) == ("It rains.", "direct", 1)
    assert "Rain all day." in model_server.requests[0].prompt


def test_a_direct_answer_that_does_not_fit_goes_on_as_an_rlm(model_server, chat, sandbox, run):
    def root(messages, request):
        return cell("SUBMIT(7)") if "REPL" in str(messages[0]["content"]) else "about seven"

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), direct_below=1_000, output_type=int, sandbox=sandbox)
    result = run(graph, {"query": "How many?", "context": "seven"})
    assert (result["answer"], result["finish_reason"]) == (7, "submitted")


@pytest.mark.parametrize("nothing", [refused(), "", "\n"])
def test_a_refusal_or_nothing_is_no_direct_answer(model_server, chat, sandbox, run, nothing):
    model_server.script("root", [nothing, cell("SUBMIT(context)")])
    graph = create_rlm_graph(chat("root"), direct_below=1_000, sandbox=sandbox)
    result = run(graph, {"query": "What is the weather?", "context": "It rains."})
    assert (result["answer"], result["finish_reason"]) == ("It rains.", "submitted")


def test_a_long_input_is_not_answered_directly(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT(len(context))")])
    graph = create_rlm_graph(chat("root"), direct_below=1_000, sandbox=sandbox)
    assert run(graph, {"query": "How long?", "context": "x" * 5_000})["answer"] == 5_000
