"""The file of answers: whole lines, whatever ends the process or the disk."""

import json
import os
import resource
from pathlib import Path

import pytest

from rlm_adapters.datasets.answers import Answer, open_answers
from rlm_adapters.errors import InputError, OutputError

ASKED = {"question": "Who?", "model": "m"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


def write(path, *answers, asked=ASKED):
    file = open_answers(path, asked)
    try:
        for answer in answers:
            file.write(answer)
        return list(file.read())
    finally:
        file.close()


def test_lines_are_added_and_read_again(path):
    write(path, Answer(id="a", answer={"x": "\ud800\n\u2028"}), Answer(id=2, error={"kind": "k", "message": "m"}))
    assert [one.id for one in write(path, Answer(id="c"))] == ["a", 2, "c"]
    records = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    assert records[0] == {
        "id": "a",
        "answer": {"x": "\ud800\n\u2028"},
        "error": None,
        "finish_reason": None,
        "usage": {},
        "seconds": 0.0,
        "run_id": "",
    }
    assert records[1]["error"] == {"kind": "k", "message": "m"}


@pytest.mark.parametrize("cut", [1, 2, 10, 30])
def test_a_half_written_last_line_is_removed_and_a_whole_one_is_kept(path, cut):
    write(path, Answer(id="a"), Answer(id="b", answer="x" * 200_000))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    kept = ["a", "b"] if cut == 1 else ["a"]
    assert [one.id for one in write(path)] == kept
    assert [one.id for one in write(path, Answer(id="c"))] == [*kept, "c"]


def test_zeros_at_the_end_after_a_power_cut_are_removed(path):
    write(path, Answer(id="a"))
    with path.open("ab") as file:
        file.write(b"\0" * 5_000)
    assert [one.id for one in write(path, Answer(id="b"))] == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[1]",
        '{"id": null}',
        '{"id": "a", "error": "no"}',
        '{"id": "a", "error": {"kind": 3}}',
        '{"id": "a", "usage": {"cost": "much"}}',
        '{"id": "a", "usage": {"cost": -1}}',
        '{"id": "a", "usage": 3}',
    ],
)
def test_a_line_that_was_edited_is_named(path, line):
    write(path, Answer(id="a"))
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(InputError, match=r"out.jsonl, line 2"):
        write(path)


def test_another_question_is_refused_and_both_are_named(path):
    write(path, Answer(id="a"))
    with pytest.raises(
        InputError, match=r"started with the question 'Who\?', and now it is 'What\?': give another file"
    ):
        write(path, asked={**ASKED, "question": "What?"})
    with pytest.raises(InputError, match="started with the model 'm', and now it is 'n'"):
        write(path, asked={**ASKED, "model": "n"})
    long = "Tell me all about it. " * 20
    other = path.with_name("long.jsonl")
    write(other, Answer(id="a"), asked={"question": long + "Then."})
    with pytest.raises(InputError, match=r"now it is '\.\.\.ll me all about it\. Now\.'"):
        write(other, asked={"question": long + "Now."})
    assert [one.id for one in write(path)] == ["a"]


def test_a_file_that_something_else_wrote_is_left_alone(path):
    path.write_text("my notes, without an end")
    with pytest.raises(InputError, match=r"not empty, and there is no out.jsonl.asked"):
        write(path)
    assert path.read_text() == "my notes, without an end"
    for broken in ("{", "[]"):
        path.with_name("out.jsonl.asked").write_text(broken)
        with pytest.raises(InputError, match="give another file"):
            write(path)


def test_the_second_of_two_at_once_is_refused(path):
    first = open_answers(path, ASKED)
    try:
        with pytest.raises(InputError, match="being written by another process"):
            open_answers(path, ASKED)
    finally:
        first.close()
    assert write(path) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        open_answers(tmp_path, ASKED)
    with pytest.raises(InputError, match="No such file"):
        open_answers(tmp_path / "none" / "out.jsonl", ASKED)


def test_a_full_disk_leaves_whole_lines(path):
    write(path, Answer(id="a"))
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = open_answers(path, ASKED)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 150, hard))
        try:
            with pytest.raises(OutputError, match="earlier lines are kept: free some space, and start again"):
                file.write(Answer(id="b", answer="x" * 1_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == size
    finally:
        file.close()
    assert [one.id for one in write(path, Answer(id="c"))] == ["a", "c"]


def test_devices_and_pipes_are_written_without_anything_beside_them(tmp_path):
    if Path("/dev/full").exists():
        full = open_answers("/dev/full", ASKED)
        with pytest.raises(OutputError, match="No space left"):
            full.write(Answer(id="a"))
        full.close()
        assert not Path("/dev/full.asked").exists()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = open_answers(pipe, ASKED)
    file.write(Answer(id="a"))
    assert json.loads(os.read(reader, 1_000))["id"] == "a"
    os.close(reader)
    with pytest.raises(OutputError, match="Broken pipe"):
        file.write(Answer(id="b"))
    file.close()
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
