"""Answers as Markdown in the terminal: what a model wrote so, and nothing lost of what it did not."""

import io
import re

import pytest
from rich.console import Console

from rlm_adapters.cli import output
from rlm_adapters.events import Event
from rlm_adapters.views.console import ConsoleView
from rlm_adapters.views.markdown import answer_view


def shown(text, width=60, **options):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system="truecolor", **options)
    console.print(answer_view(text))
    return console.file.getvalue()


def plain(text, width=60):
    return re.sub(r"\x1b\[[0-9;]*m", "", shown(text, width))


def test_markdown_is_shown_as_such():
    text = plain("# Findings\n\nIt is **Ann**.\n\n- one\n- two\n\n| who | how often |\n| --- | ---: |\n| Ann | 7 |\n")
    assert "**" not in text
    assert "#" not in text
    assert re.search(r"^ • one", text, re.MULTILINE)
    assert re.search(r"who +how often", text)
    assert "\x1b[1mAnn" in shown("It is **Ann**.")


def test_lines_of_an_answer_stay_lines():
    text = "- found:\n  Ann (30)\n  Bob (29)\n\nfirst\nsecond"
    lines = [line.strip() for line in plain(text).splitlines()]
    assert {"Ann (30)", "Bob (29)", "first", "second"} <= set(lines)


@pytest.mark.parametrize(
    "text",
    [
        "two words\nand a line",
        "a * b * c, snake_case_name, 3 > 2",
        "<p>HTML</p>\n<!-- kept -->",
        '{"a": [1, 2]}',
        "    four blanks",
        "-1",
        "1.5 metres",
        "C:\\*\\new",
    ],
)
def test_what_is_not_written_as_markdown_stays_as_it_is(text):
    assert plain(text).rstrip("\n") == text


@pytest.mark.parametrize(
    "part",
    [
        "<b>bold</b>",
        "<script>x()</script>",
        "<!-- hidden -->",
        "&lt;",
        "https://host.example/path",
        "[note]: http://h.example",
        "<http://h.example/>",
    ],
)
def test_nothing_of_markdown_is_lost(part):
    assert part in plain(f"# Title\n\nbefore {part} after")
    assert part in plain(f"# Title\n\n{part}")


def test_a_link_shows_where_it_leads_and_cannot_be_clicked():
    text = shown("# T\n\n[bank](https://evil.example) ![pixel](https://evil.example/p.png)")
    assert "\x1b]8" not in text
    assert text.count("https://evil.example") == 2


def test_control_characters_do_not_reach_the_terminal(monkeypatch):
    file = io.StringIO()
    view = ConsoleView(Console(file=file, force_terminal=True, width=60))
    evil = "# T\x1b]0;owned\x07\n\n- \x1b[2J\n\n```python\n\x1b[2J\n```"
    view.handle(Event(type="final", run_id="r", data={"answer": evil}))
    view.close()
    assert "\\x1b[2J" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert "\x1b]" not in file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_command_shows_markdown_in_a_terminal_and_writes_it_into_a_pipe(capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    output.print_answer("# Title\n\n- one\n- two")
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert (said == "# Title\n\n- one\n- two\n") is not terminal
    assert ("• one" in said) is terminal


@pytest.mark.parametrize(
    "text", ["[" * 19_000 + "\n- x", "> " * 10_000, "- " * 10_000, "# x\n" + "*a" * 9_000, "- x" * 100_000]
)
def test_deeply_nested_markdown_ends(text):
    assert shown(text)
