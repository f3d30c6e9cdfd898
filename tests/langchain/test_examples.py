"""The examples of ChatRLM run as a user runs them, against the test server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import cell

EXAMPLES = Path(__file__).parents[2] / "examples"
BOOK = (
    "It was a dark and stormy night.\n\n" * 3_000
    + "In the end the gardener found the ring.\n\n"
    + "The rain fell.\n\n" * 99
)


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(BOOK)
    return str(path)


@pytest.fixture
def run(model_server):
    def run(name, *arguments):
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": model_server.url,
            "OPENAI_API_KEY": "test",
            "RLM_MODEL": "openai:root",
        }
        done = subprocess.run(
            [sys.executable, EXAMPLES / name, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        largest = max(len(record.prompt) for record in model_server.requests)
        assert largest < 8_000, "the input must not enter a prompt"
        return done

    return run


def test_a_chain_over_a_book(model_server, run, book):
    code = "import re\nSUBMIT(re.search(r'the (\\w+) found the ring', context).group(1))"
    model_server.script("root", lambda m, r: cell(code))
    assert run("book_chain.py", book, "Who found the ring?").stdout == "gardener\n"
    prompt = model_server.requests[0].messages
    assert "Answer from the book alone" in prompt[0]["content"]


def test_retrieved_documents_become_a_variable(model_server, run, book):
    code = (
        "hits = [d for d in context if 'ring' in d['page_content']]\n"
        "SUBMIT(f\"{len(context)} documents, paragraph {hits[0]['metadata']['paragraph']}\")"
    )
    model_server.script("root", lambda m, r: cell(code))
    assert run("rag_documents.py", book, "Who found the ring?").stdout == "500 documents, paragraph 3000\n"


def test_an_agent_with_tools(model_server, run):
    code = (
        "total = 0\nfor number in ('A-17', 'C-99'):\n"
        "    item, count, state = order(number).split(', ')\n    total += int(count) * float(price(item))\nSUBMIT(total)"
    )
    model_server.script("root", lambda m, r: cell(code))
    lines = run("agent_tools.py").stdout.splitlines()
    assert lines[-1] == "ai: 390.0"
    assert sum(line.startswith("tool:") for line in lines) == 4
    assert len(model_server.requests) == 1


def test_extraction_from_a_log_is_mended_inside_the_run(model_server, run):
    find = (
        "lines = context.split('\\n')\nfound = {}\nfor number, line in enumerate(lines, 1):\n"
        "    if ' ERROR ' in line:\n        found.setdefault(line.split()[2], []).append(number)\n"
    )
    wrong = (
        find
        + "SUBMIT(lines=len(lines), outages=[dict(service=s, first_line=-1, errors=len(n)) for s, n in found.items()])"
    )
    right = (
        "SUBMIT(lines=len(lines), outages=[dict(service=s, first_line=n[0], errors=len(n)) for s, n in found.items()])"
    )
    model_server.script("root", [cell(wrong), cell(right)])
    lines = run("extract_log.py").stdout.splitlines()
    assert int(lines[0].split()[0].replace(",", "")) > 5_000_000
    assert lines[1:] == ["billing: 40 errors from line 20,001", "search: 75 errors from line 61,501"]
    assert "outside of the log" in model_server.requests[1].messages[-1]["content"]


def test_an_existing_langgraph_node(model_server, run, book):
    def root(messages, request):
        if messages[-1]["content"].startswith("Grade"):
            return "B"
        return cell("SUBMIT(f'{len(context):,} characters of rain.')")

    model_server.script("root", root)
    assert run("langgraph_node.py", book).stdout == f"{len(BOOK):,} characters of rain.\nGrade: B\n"


def test_progress_in_a_terminal(model_server, run, book):
    def root(messages, request):
        if len(messages) == 1:
            return "storm"
        turn = sum(message["role"] == "assistant" for message in messages)
        first = "words = llm_query_batched([context[:200], context[-200:]])\nprint(words)"
        return cell(first if turn == 0 else "SUBMIT('It is about a ' + words[0])")

    model_server.script("root", root)
    done = run("streaming_progress.py", book, "What is it about?")
    assert done.stdout == "It is about a storm\n"
    assert "sub-calls: 2 of 2" in done.stderr
    assert "| words = llm_query_batched" in done.stderr
