# ruff: noqa: RUF001 - the characters that models write are the subject
"""Properties of the reader that hold for every reply."""

from __future__ import annotations

import ast
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_adapters.replies import UNSET, TextFinish, accept_provisional, plain_answer, read_reply
from rlm_adapters.replies.cells import MAX_CELLS

PIECES = [
    "```python\n", "```", "````\n", "~~~\n", "\n", "\n\n", "FINAL(", "FINAL_VAR(x)", ")", '"""', "'", "(", "> ", "- ",
    "x = 1", "print(x)", "<think>", "</think>", "<tool_call>", '{"code": "x"}', "[", "{", "Output: 3", "User: hi",
    "Assistant: ok", "[[ ## code ## ]]", "<|im_end|>", "<|channel|>final<|message|>", "\\", "&lt;", "“", "word ",
    "Action: python\nAction Input: ", "<code>\n", "</code>", "\t", "\u200b", "\ud800", "\x00", "（",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=200))
def test_every_text_has_a_consistent_reading(text: str) -> None:
    reading = read_reply(text)
    assert (reading.kind in ("code", "code_then_final")) == bool(reading.code)
    assert (reading.kind in ("final_text", "final_var", "code_then_final")) == (reading.final is not None)
    assert (reading.kind == "repair") == bool(reading.repair)
    assert reading.kind != "repair" or reading.message
    assert all(cell.strip() for cell in reading.code)
    assert read_reply(text) == reading


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("(" * 1_000_000, "repair"),
        ("```python\n" + "(" * 900_000 + "\n```", "code"),
        ("```python\n" + "-" * 200_000 + "1\n```", "code"),
        ("```python\nx" + ".a" * 100_000 + "\n```", "code"),
        ("```python\nx = '\x00'\n```", "code"),
        ("```python\nx = '\ud800'\n```", "code"),
        ("FINAL(" + "(" * 100_000 + ")" * 100_000 + ")", "final_text"),
        ("FINAL(\n" * 20_000, "repair"),
        ("<think>a</think>\n" * 5_000, "repair"),
        ("[" * 200_000, "repair"),
        ('{"code":' * 20_000, "repair"),
        ("a " * 600_000, "repair"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_what_breaks_the_parser_is_still_read(reply: str, kind: str) -> None:
    assert read_reply(reply).kind == kind


def test_five_thousand_blocks_are_bounded() -> None:
    reading = read_reply("\n".join(f"```python\nx = {i}\n```\n" for i in range(5_000)))
    assert reading.kind == "code"
    assert len(reading.code) == MAX_CELLS


def test_the_parser_warns_nobody_about_the_models_escapes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reading = read_reply('```python\nprint("\\d")\n```\n\nFINAL("\\d+ ships")')
    assert reading.code == ('print("\\d")',)
    assert reading.final == TextFinish("text", "\\d+ ships", provisional=True)


def test_the_recursion_limit_is_left_alone() -> None:
    before = sys.getrecursionlimit()
    read_reply("```python\n" + "[" * 10_000 + "\n```")
    assert sys.getrecursionlimit() == before


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_reply_cut_off_by_length_says_so(reason: str) -> None:
    assert read_reply("```python\nfor c in", finish_reason=reason).repair == "cut_off"
    assert read_reply("I will now", finish_reason=reason).repair == "cut_off"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The winner is Ada.", "The winner is Ada."),
        ("<think>Who?</think>\nAda won.", "Ada won."),
        ("<think>Who?", None),
        ("I'm sorry, I cannot help with that.", None),
        ("Okay, let me search the text first.", None),
        ("First, I need to look at the context.", None),
        ("I can read it: Ada won.", None),
        ("Could you send the text?", None),
        ("```python\nprint(1)\n```", None),
        ("FINAL(Ada)", None),
        ("", None),
        ("I can tell that Ada won.", "I can tell that Ada won."),
        ("Letters arrive on Monday.", "Letters arrive on Monday."),
    ],
)
def test_a_plain_answer_is_told_from_plans_questions_and_refusals(reply: str, answer: str | None) -> None:
    assert plain_answer(reply) == answer


def test_a_finish_with_an_unknown_name_lists_those_that_exist() -> None:
    reading = read_reply("FINAL(final_summary)", names=["summary", "chunks"])
    assert (reading.kind, reading.repair) == ("repair", "bad_final")
    assert "chunks, summary" in reading.message


def test_an_unknown_variable_is_never_the_answer() -> None:
    reading = read_reply("FINAL_VAR(reprot)", names=["report"])
    assert reading.final is not None
    assert reading.final.kind == "var"


@pytest.mark.parametrize(
    ("text", "printed", "accepted"),
    [
        ("Thomas Huxley", "It was Thomas  Huxley.\n", True),
        ("42", "total: 42\n", True),
        ("42", "in 1942\n", False),
        ("42", "42.5\n", False),
        ("42", "-42\n", False),
        ("5", "1,5\n", False),
        ("No", "No such file\n", False),
        ("No", "Answer: No\n", True),
        ("Paris", "", False),
        ("Paris", "Parisian\n", False),
    ],
)
def test_a_provisional_finish_needs_the_output_to_say_it(text: str, printed: str, accepted: bool) -> None:
    assert accept_provisional(TextFinish("text", text, provisional=True), printed) is accepted


def test_a_provisional_literal_is_found_as_python_prints_it() -> None:
    finish = TextFinish("text", '["a","b"]', ["a", "b"], provisional=True)
    assert accept_provisional(finish, "['a', 'b']\n")


def test_what_was_computed_needs_no_proof() -> None:
    assert accept_provisional(TextFinish("var", "x"), "")


@pytest.mark.parametrize("value", ["42", "-3", "3.5", "[1, 2]", '{"a": [true, null]}', "True", '{"a": (1, 2)}'])
def test_literals_are_typed_as_plain_json(value: str) -> None:
    reading = read_reply(f"FINAL({value})")
    assert reading.final is not None
    assert reading.final.text == value
    plain = value.replace("true", "True").replace("null", "None").replace("(", "[").replace(")", "]")
    assert reading.final.literal == ast.literal_eval(plain)


@pytest.mark.parametrize("value", [f"0x{'f' * 5_000}", f"[0x{'f' * 5_000}]", "1e999", "[-1e999]"])
def test_a_number_that_json_cannot_hold_is_text(value: str) -> None:
    reading = read_reply(f"FINAL({value})")
    assert reading.final == TextFinish("text", value)


@pytest.mark.parametrize("value", ["1,234", "1837-1901", "3/4", "2021-03-04", "007", "1, 2", "b'x'", "3+4j"])
def test_what_only_looks_like_a_number_is_text(value: str) -> None:
    reading = read_reply(f"FINAL({value})")
    assert reading.final is not None
    assert (reading.final.text, reading.final.literal) == (value, UNSET)
