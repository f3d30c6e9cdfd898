"""Each example runs without arguments on the data that it makes or ships, in this process, against the test server."""

import io
import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.server import cell, text_of, turn_of

EXAMPLES = Path(__file__).parents[1] / "examples"
README = (EXAMPLES / "README.md").read_text()
NOT_EXAMPLES = {"sample_data.py", "scripted.py"}
"""Modules that examples import."""
ELSEWHERE = {
    "demo.py": "tests/test_examples.py",
    "optimize_rlm.py": "tests/dspy/test_optimizers.py",
    "deep_agent.py": "tests/notebook/test_examples.py",
    "agent_tools.py": "tests/langchain/test_examples.py",
    "worker.py": "tests/workers/crew.py",  # needs PostgreSQL
    "extract_log.py": "tests/langchain/test_examples.py",
}
"""Which other test runs them."""

COUNT_BEES = "SUBMIT(f'{len(context):,} characters, {context.count(\"bees\")} times')"
BOOK = (EXAMPLES / "data" / "origin-of-species.txt").read_text()
BEES = f"{len(BOOK):,} characters, {BOOK.count('bees')} times"
LABEL = """
batches = [context[start:start + 50] for start in range(0, len(context), 50)]
prompts = ['Give the kind of each:\\n' + '\\n'.join(row['text'] for row in batch) for batch in batches]
kinds = [kind for reply in llm_query_batched(prompts) for kind in reply.split()]
counts = {}
for row, kind in zip(context, kinds):
    counts[row['month'], kind] = counts.get((row['month'], kind), 0) + 1
SUBMIT([dict(month=month, kind=kind, tickets=count) for (month, kind), count in counts.items()])
"""
CLAUSES = """
import re
found = []
for name, pages in context.items():
    for number, text in enumerate(pages, 1):
        hit = re.search(r'notice of (\\d+) days', text)
        if hit and int(hit[1]) < 60:
            found.append(dict(file=name, page=number, days=int(hit[1])))
SUBMIT(found)
"""
FALLING = """
SUBMIT([name.partition('.')[0].title() for name, image in context.items()
        if llm_query(['Falls or rises?', image]) == 'falls'])
"""
CLASSES = """
import re
SUBMIT([dict(name=name, file=path, meaning='an error')
        for path, text in context.items() for name in re.findall(r'^class (\\w+Error)\\b', text, re.M)])
"""


def kinds_of(prompt):
    """What a sub-LM that can read says of tickets."""
    words = {
        "delivery": ("parcel", "courier", "on its way"),
        "payment": ("card", "invoice", "money"),
        "defect": ("lamp", "leg", "dark"),
    }
    return " ".join(
        next(kind for kind, marks in words.items() if any(mark in line for mark in marks))
        for line in prompt.splitlines()[1:]
    )


def first_bar_is_taller(messages):
    """What a sub-LM that can see says of a chart: it reads the picture that it was sent."""
    import base64
    import zlib

    (image,) = [part for part in messages[-1]["content"] if part["type"] == "image_url"]
    data = base64.b64decode(image["image_url"]["url"].partition("base64,")[2])
    start = data.index(b"IDAT") + 4
    pixels = zlib.decompress(data[start : data.index(b"IEND") - 8])
    width = int.from_bytes(data[16:20], "big")
    rows = [pixels[y * (3 * width + 1) + 1 : (y + 1) * (3 * width + 1)] for y in range(240)]
    first, last = (sum(row[3 * x] != 255 for row in rows) for x in (30, width - 30))
    return "falls" if first > last else "rises"


RUNS = {
    "quickstart.py": ([COUNT_BEES], None, BEES),
    "book_chain.py": ([COUNT_BEES], None, BEES.partition(", ")[2]),
    "streaming_progress.py": ([COUNT_BEES], None, BEES),
    "langgraph_node.py": ([COUNT_BEES], lambda messages: "B", f"{BEES}\nGrade: B"),
    "review_cells.py": ([COUNT_BEES], None, f"(e)? \n{BEES}"),
    "two_questions.py": (
        ["hits = context.split('bees')\nSUBMIT(len(hits) - 1)", "SUBMIT(len(hits))"],
        None,
        f"{BOOK.count('bees')}  (0 sub-calls)\n{BOOK.count('bees') + 1}  (0 sub-calls)",
    ),
    "fork_and_edit.py": (["SUBMIT(context.count('pigeon'))"], None, f"As it was: {BOOK.count('pigeon')}\nEdited: {BOOK.count('bee')}"),
    "rag_documents.py": (
        ["SUBMIT(f\"{len(context)} documents, {sum('bees' in one['page_content'] for one in context)} of bees\")"],
        None,
        "500 documents, ",
    ),
    "documents_in_parallel.py": (
        ["SUBMIT(context.splitlines()[0])"],
        lambda messages: "Read all three.",
        "approval.md: # Approve cells and tool calls\nsecurity.md: # Security\nstorage.md: # ",
    ),
    "code_base.py": ([CLASSES], None, "errors.py: GraphRecursionError: an error"),
    "pdf_shelf.py": ([CLAUSES], None, "contract-"),
    "tickets_to_dataframe.py": (
        [LABEL],
        lambda messages: kinds_of(text_of(messages[-1])),
        "off by 0 of 600 tickets",
    ),
    "images.py": (
        [FALLING],
        first_bar_is_taller,
        "Lisbon",
    ),
}  # fmt: skip
"""By example: the cells that the root LM writes, what the sub-LM answers, and what stands in the output."""


@pytest.mark.parametrize("name", RUNS)
def test_the_example_runs_without_arguments(name, openai_address, monkeypatch, capsys):
    codes, sub, expected = RUNS[name]

    def play(messages, request):
        if "```repl" not in text_of(messages[0]):
            return sub(messages)
        asked = sum(text_of(one).count("Question:") for one in messages if one["role"] == "user") - 1
        return cell(codes[min(max(asked, turn_of(messages)), len(codes) - 1)])

    for model in ("gpt-5", "gpt-5-mini"):
        openai_address.script(model, play)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    monkeypatch.delenv("RLM_MODEL", raising=False)
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert expected in capsys.readouterr().out
    assert max(len(record.prompt) for record in openai_address.requests) < 12_000, "the input must not enter a prompt"


def test_the_list_names_each_example_once_and_each_one_is_run():
    files = {path.name for path in EXAMPLES.glob("*.py")} - NOT_EXAMPLES
    notebooks = {f"notebooks/{path.name}" for path in EXAMPLES.glob("notebooks/*.ipynb")}
    assert len(notebooks) >= 4
    listed = re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", README, re.MULTILINE)
    assert sorted(listed) == sorted(files | notebooks)
    assert files == set(RUNS) | set(ELSEWHERE)
    for name, test in ELSEWHERE.items():
        assert name.removesuffix(".py") in (EXAMPLES.parent / test).read_text()
