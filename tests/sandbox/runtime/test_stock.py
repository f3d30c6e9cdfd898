"""Answers that are in the worker before the cell asks for them: the cell cannot tell, and the journal knows all."""

from __future__ import annotations

import pytest

from rlm_adapters.sandbox import Done, Failure, HostFunction, Pending, Sandbox, Value
from rlm_adapters.sandbox.host import cell as cell_module
from rlm_adapters.sandbox.protocol.journal import call_hash

LLM_QUERY = HostFunction(name="llm_query", effects=False, parameters=("prompt",))
TOOL = HostFunction(name="tool", effects=True, parameters=("value",))


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as made:
        yield made


@pytest.fixture(params=["ahead", "off"])
def session(request, sandbox):
    with sandbox.open(functions=[LLM_QUERY, TOOL], epoch=0) as opened:
        if request.param == "off":
            opened._ahead._enabled = False
        yield opened


def key(prompt: str, occurrence: int = 0, cell: int = 0) -> str:
    return f"{cell}:{call_hash('llm_query', [prompt], {})}:{occurrence}"


def finish(session, code, answers=None):
    step, asked = session.start(code, answers=answers or {}), []
    while isinstance(step, Pending):
        asked += [call.args[0] for call in step.calls]
        step = session.resume({call.id: Value(f"<{call.args[0]}>") for call in step.calls})
    assert isinstance(step, Done)
    return step, asked


def test_what_is_known_is_not_asked_again(session):
    known = {key(f"{n}"): Value(f"known {n}") for n in range(5)}
    done, asked = finish(session, "print([llm_query(f'{n}') for n in range(8)])", known)
    assert done.stdout == "['known 0', 'known 1', 'known 2', 'known 3', 'known 4', '<5>', '<6>', '<7>']\n"
    assert sorted(asked) == ["5", "6", "7"]
    assert len(session.journal[-1].answers) == 8


def test_a_batch_of_which_a_part_is_known_comes_back_in_order(session):
    known = {key("b"): Value("known b"), key("b", 1): Value("again b")}
    code = "from concurrent.futures import ThreadPoolExecutor\n"
    code += "with ThreadPoolExecutor() as pool: print(list(pool.map(llm_query, ['a', 'b', 'c', 'b'])))\n"
    done, asked = finish(session, code, known)
    assert done.stdout == "['<a>', 'known b', '<c>', 'again b']\n"
    assert sorted(asked) == ["a", "c"]


def test_only_the_answers_that_were_used_are_journaled(session):
    known = {key(f"{n}"): Value("x") for n in range(10)}
    finish(session, "print(llm_query('3'))", known)
    assert set(session.journal[-1].answers) == {key("3")}


def test_answers_of_one_cell_do_not_serve_the_next(session):
    finish(session, "a = llm_query('p')", {key("p"): Value("known"), key("p", 1): Value("left over")})
    done, asked = finish(session, "print(a, llm_query('p'))")
    assert (done.stdout, asked) == ("known <p>\n", ["p"])


def test_prompts_that_differ_in_a_lone_surrogate_alone_are_the_same_call(session):
    """No channel takes a lone surrogate; what stands for it counts, on both sides."""
    known = {key("a\ufffd"): Value("one"), key("a\ufffd", 1): Value("two")}
    done, asked = finish(session, r"print([llm_query('a\ud800'), llm_query('a\ud801'), llm_query('a\ufffd')])", known)
    assert (done.error, done.stdout, asked) == (None, "['one', 'two', '<a\ufffd>']\n", ["a\ufffd"])


def test_answers_too_long_to_be_sent_beforehand_are_sent_when_they_are_asked_for(session, monkeypatch):
    monkeypatch.setattr(cell_module, "_STOCK_CHARS", 1_000)
    known = {key(f"{n}"): Value(f"{n}" * 600) for n in range(6)}
    done, asked = finish(session, "print([len(llm_query(f'{n}')) for n in range(6)])", known)
    assert (done.stdout, asked) == ("[600, 600, 600, 600, 600, 600]\n", [])


def test_a_failure_that_is_known_is_raised_at_its_call(session):
    code = "try:\n    llm_query('x')\nexcept SubCallError as error:\n    print('caught', error)"
    done, asked = finish(session, code, {key("x"): Failure("no", kind="server", retryable=False)})
    assert (done.stdout, asked) == ("caught no\n", [])


def test_a_session_that_is_rebuilt_asks_for_nothing_it_was_told(sandbox, session):
    finish(session, "base = [llm_query(f'base {n}') for n in range(200)]")
    step = session.start("more = [llm_query(f'more {n}') for n in range(200)]\nprint(len(base), len(more))")
    answers = {}
    while isinstance(step, Pending) and len(answers) < 100:
        answers |= {call.id: Value(f"<{call.args[0]}>") for call in step.calls}
        step = session.resume(answers)
    session.kill()
    asked = []
    while isinstance(step, Pending):
        asked += [call.id for call in step.calls]
        step = session.resume({call.id: Value(f"<{call.args[0]}>") for call in step.calls})
    assert step.stdout == "200 200\n"
    assert not set(asked) & set(answers)


def test_a_tool_is_known_by_its_arguments_too(session):
    known = {f"0:{call_hash('tool', [{'a': [1, 2.5, None]}], {})}:0": Value({"ok": True})}
    done, asked = finish(session, "print(tool({'a': [1, 2.5, None]}), tool('new'))", known)
    assert (done.stdout, asked) == ("{'ok': True} <new>\n", ["new"])
