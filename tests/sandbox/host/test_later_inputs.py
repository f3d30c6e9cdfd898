"""Inputs that come when a session has run some cells: a second question over the same REPL."""

from pathlib import Path

import pytest

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import Done, HostFunction, LaterInputs, MontySandbox, Sandbox

BOOK = Path(__file__).parents[2] / "data" / "Origin-of-Species.pdf"
FIRST = {"context": "first", "kept": [1, 2]}
BIG = "x" * 5_000_000


@pytest.fixture(scope="module", params=["restricted", "monty"])
def executor(request):
    with Sandbox() if request.param == "restricted" else MontySandbox() as sandbox:
        yield sandbox


def ran(session, code):
    done = session.start(code)
    assert isinstance(done, Done)
    assert done.error is None, done.error.traceback
    return done.stdout


def test_earlier_cells_see_the_earlier_inputs_and_new_ones_the_new(executor):
    with executor.open(variables=FIRST, epoch=1.0) as session:
        assert ran(session, "first = context\nprint(context)") == "first\n"
        ran(session, "def shout(): return context.upper()")
        journal = session.journal
    later = [LaterInputs(after=2, variables={"context": "second", "more": 7})]
    with executor.open(variables=FIRST, epoch=1.0, journal=journal, later=later) as session:
        assert ran(session, "print(context, first, kept, more, shout())") == "second first [1, 2] 7 SECOND\n"
        journal = session.journal
    later.append(LaterInputs(after=3, variables={"kept": BIG}))
    with executor.open(variables=FIRST, epoch=1.0, journal=journal, later=later) as session:
        assert ran(session, "print(context, first, len(kept), more)") == "second first 5000000 7\n"
        session.kill()
        assert ran(session, "print(context, first, len(kept), more)") == "second first 5000000 7\n"


def test_an_input_takes_the_place_of_a_variable_of_a_cell(executor):
    with executor.open(epoch=1.0) as session:
        ran(session, "context = 'made by a cell'")
        journal = session.journal
    later = [LaterInputs(after=1, variables={"context": "given"})]
    with executor.open(epoch=1.0, journal=journal, later=later) as session:
        assert ran(session, "print(context)") == "given\n"


def test_a_round_without_a_cell_before_it_counts_from_the_beginning(executor):
    later = [LaterInputs(after=0, variables={"context": "b"}), LaterInputs(after=0, variables={"context": "c"})]
    with executor.open(variables={"context": "a"}, later=later) as session:
        assert ran(session, "print(context)") == "c\n"


def test_files_of_a_later_round_take_the_place_of_earlier_ones(sandbox):
    with sandbox.open(files={"a.txt": b"one", "b.txt": b"b"}, epoch=1.0) as session:
        assert ran(session, "print(open('a.txt').read())\nopen('mine.txt', 'w').write('mine')") == "one\n4\n"
        journal = session.journal
    later = [LaterInputs(after=1, files={"a.txt": b"two", "mine.txt": b"theirs", "c/d.txt": b"deep"})]
    with sandbox.open(files={"a.txt": b"one", "b.txt": b"b"}, epoch=1.0, journal=journal, later=later) as session:
        code = "print(*[open(name).read() for name in ('a.txt', 'b.txt', 'mine.txt', 'c/d.txt')])"
        assert ran(session, code) == "two b theirs deep\n"


def test_the_clock_moves_on_with_them_and_never_back(sandbox):
    later = [LaterInputs(after=1, epoch=90_000.0), LaterInputs(after=2, epoch=10.0)]
    with sandbox.open(epoch=1.0, later=later) as session:
        now = "import time\nprint(int(time.time()))"
        assert [ran(session, now) for _ in range(3)] == ["1\n", "90000\n", "90000\n"]


def test_a_call_of_the_new_input_is_sent_by_its_name(sandbox):
    functions = [HostFunction(name="llm_query", parameters=("prompt",), effects=False)]
    text, other = "long text " * 100, "other text " * 100
    later = [LaterInputs(after=0, variables={"context": other})]
    with sandbox.open(variables={"context": text}, functions=functions, later=later) as session:
        pending = session.start("llm_query(context)")
        assert pending.calls[0].args == ({"$input": "context"},)


@pytest.mark.parametrize("name", ["not a name", "llm_query"])
def test_a_name_that_cannot_be_one_is_refused(sandbox, name):
    functions = [HostFunction(name="llm_query", parameters=("prompt",))]
    with pytest.raises(InputError, match=r"choose another|rename one"):
        sandbox.open(functions=functions, later=[LaterInputs(after=0, variables={name: 1})])


def test_a_pdf_that_comes_later_can_be_read(sandbox):
    with sandbox.open(epoch=1.0) as session:
        ran(session, "x = 1")
        journal = session.journal
    later = [LaterInputs(after=1, files={"book.pdf": str(BOOK)})]
    with sandbox.open(epoch=1.0, journal=journal, later=later) as session:
        assert ran(session, "import pypdf\nprint(len(pypdf.PdfReader('book.pdf').pages) > 50)") == "True\n"
