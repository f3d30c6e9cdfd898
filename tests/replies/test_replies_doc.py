"""docs/replies.md is true: each example is read as it says, and nothing that the reader can say is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from rlm_adapters.replies import Problem, Reading
from rlm_adapters.replies.read import MAX_CHARS
from tests.replies.corpus import as_expected, read

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "replies.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^````text\n(?P<reply>.*?)^````\n\n```json\n(?P<expected>.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES = [(found["reply"].removesuffix("\n"), json.loads(found["expected"])) for found in EXAMPLE.finditer(TEXT)]
NAMES = ["summary"]


def told_by_a_table(heading: str) -> set[str]:
    """The first column of the first table behind a heading, without its title."""
    table = TEXT.split(heading, 1)[1].split("|\n\n", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:])


@pytest.mark.parametrize(("reply", "expected"), EXAMPLES)
def test_an_example_is_read_as_the_page_says(reply: str, expected: dict) -> None:
    given = expected.pop("given", {})
    reading = read({"raw": reply, "env": NAMES, **given})
    assert as_expected(reading, {"expect": expected}), reading


def test_every_block_of_the_page_is_part_of_an_example() -> None:
    assert (
        len(EXAMPLES)
        == TEXT.count("````text\n")
        == TEXT.count("```json\n") - TEXT.count('"""Answer like this:\n```json')
    )


def test_every_kind_and_every_problem_is_explained_and_shown() -> None:
    kinds = set(get_args(get_type_hints(Reading)["kind"]))
    assert told_by_a_table("# How a reply") == kinds == {expected["kind"] for _, expected in EXAMPLES}
    problems = set(get_args(Problem))
    assert told_by_a_table("## 7. What is sent back") == problems
    assert {expected["repair"] for _, expected in EXAMPLES if "repair" in expected} == problems - {"too_long"}
    assert f"{MAX_CHARS:,}" in TEXT


def test_every_reader_that_the_page_names_exists_and_none_is_left_out() -> None:
    files = {path.name for path in (ROOT / "rlm_adapters" / "replies").glob("*.py")}
    named = set(re.findall(r"`(\w+\.py)`", TEXT))
    # what the readers share, and what holds them together
    assert files - named == {"__init__.py", "clean.py", "contents.py", "prose.py", "read.py", "reading.py", "syntax.py"}
    assert named <= files
