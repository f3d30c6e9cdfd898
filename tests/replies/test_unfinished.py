"""What of a reply that is still being written stands already, and what does not."""

import pytest

from rlm_adapters.replies.unfinished import beginning_of, what_is_new

CELL = """chunks = [f'part {i}' for i in range(3)]
notes = []
for chunk in chunks:
    text = f'''about
{chunk}
'''
    notes.append(llm_query(text))

# a comment
if notes:
    print('some')
# not the end of the statement before
else:
    print('none')
try:
    x = (1,
2)
except ValueError:
    x = 0
@staticmethod
def f(a):
    return a
print(f(x))
"""


def written(text):
    found = beginning_of(text)
    return None if found is None else (found.code.split("\n")[-1] if found.code else "", found.count, found.whole)


def test_a_statement_is_complete_when_the_next_one_has_begun():
    """However the reply is cut, only whole statements of the cell are found, and each as soon as it can be."""
    reply = f"I will look.\n\n```python\n{CELL}```\nThat is all."
    begins = [CELL.index(first) for first in ("notes", "for chunk", "if notes", "try:", "@static", "print(f(x))")]
    opened, closed = reply.index(CELL), reply.index("```\nThat") + 3
    for cut in range(len(reply) + 1):
        found = beginning_of(reply[:cut])
        if cut >= closed:
            assert found is not None
            assert (found.code, found.count, found.whole) == (CELL.rstrip("\n"), 7, True)
            continue
        if cut > opened + len(CELL):  # a mark that may become the end of the fence, or be anything else
            continue
        count = 0 if found is None else found.count
        # The first two are simple: they end with their lines.
        ends = [begin - 1 if number < 2 else begin for number, begin in enumerate(begins)]
        assert sum(cut - opened >= begin + 4 for begin in begins) <= count
        assert count <= sum(cut - opened > end for end in ends) + (cut - opened == len(CELL))
        if found is not None:
            assert found.code.strip() == CELL[: [*begins, len(CELL)][count - 1]].strip()


@pytest.mark.parametrize(
    "text",
    [
        "<think>\n```python\na = llm_query('x')\nb = 1\n",
        "<think>\n```python\na = llm_query('x')\nb = 1\n```\n",
        "```json\n{}\n1\n",
        "```\na = 1\nb = 2\n",
        "a = 1\nb = 2\n",
        "```python",
        "```python\na = 1",
        "```python\nif a:\n    b\nel",
        "```python\na = (1,\n2\n",
        "```python\n    a = 1\nb = 2\n",
        "```python\na = = 1\nb = 2\nc = 3",
        "> ```python\n> a = 1\n> b = 2\n",
    ],
)
def test_what_is_no_statement_of_a_cell_yet_is_none(text):
    assert beginning_of(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>hm ```python\nz = 0\ny = 1\n```</think>\n```repl\na = 1\nb", ("a = 1", 1, False)),
        ("~~~py\r\na = 1\r\nb = 2\r\n", ("b = 2", 2, False)),
        ("```python\na = 1\n", ("a = 1", 1, False)),
        ("```python\na = 1\n# more", ("a = 1", 1, False)),
        ("```python\na = 1\nif a:\n    b\n# more\n", ("a = 1", 1, False)),
        ("Now:```python\na = 1\nb = 2\nc", ("b = 2", 2, False)),
        ("````python\na = '''\n```\n'''\nb", ("'''", 1, False)),
        ("```python\na = 1\n```\n\n```python\nb = 1\nc = 2\n", ("a = 1", 1, True)),
        ("```python\nif a:\n    b\nelse", None),
        ("```python\nif a:\n    b\nelsewhere = 1", ("    b", 1, False)),
        ("```python\ns = '''\na = 1\nb = 2\n", None),
        ('```python\np = re.compile("\\d")\nb', ('p = re.compile("\\d")', 1, False)),
    ],
)
def test_fences_are_read_as_the_whole_reply_will_be(text, expected):
    assert written(text) == expected


def test_long_texts_are_not_read_again_and_again():
    assert beginning_of("```python\n" + "a = 1\n" * 20_000) is None
    assert beginning_of('```python\ns = """\n' + "a\n" * 10_000) is None


def test_what_is_new_runs_with_the_functions_that_it_names():
    code = (
        "def ask(t):\n    return llm_query(t)\n\n"
        "def deep(t):\n    return ask(t)\n\n"
        "same = lambda t: t\nimport re\n"
        "print(len(context))\n"
        "out = [deep(c) for c in context]"
    )
    assert what_is_new(code[: code.index("print")], 0) == "same = lambda t: t\nsame = lambda t: t"
    assert what_is_new(code, 4) == (
        "print(len(context))\nout = [deep(c) for c in context]\n"
        "def deep(t):\n    return ask(t)\ndef ask(t):\n    return llm_query(t)"
    )
    assert what_is_new(code, 5).startswith("out = ")
    assert what_is_new(code[: code.index("out")], 4) == "print(len(context))"
    assert what_is_new("import re\ndef f(): llm_query('x')", 0) == ""
