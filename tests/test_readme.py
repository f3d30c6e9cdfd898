"""Every Python block of the README runs as it stands, against the test server."""

import re
from pathlib import Path

import pytest

from tests.server import Reply, by_question, cell

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

FIND = """
import re
text = max((value for value in globals().values() if isinstance(value, str)), key=len)
SUBMIT(re.search(r"\\w+ finds the key", text).group(0))
"""

DSPY_CELL = Reply(
    "[[ ## reasoning ## ]]\nSearch.\n\n[[ ## code ## ]]\n```python\n"
    "SUBMIT(answer=str('lighthouse' in document), pages=[3])\n```\n\n[[ ## completed ## ]]"
)


@pytest.fixture
def world(openai_address, model_server, tmp_path):
    """The environment that the README supposes: a key, models, a book in the working directory."""
    (tmp_path / "book.txt").write_text("Anna finds the key under the lighthouse.\n" * 5_000)
    root = by_question({
        "Who finds the key": lambda m, r: cell(FIND),
        "Which pages name": lambda m, r: DSPY_CELL,
        "Which chapters mention": lambda m, r: cell("SUBMIT(['one'])"),
    })  # fmt: skip
    model_server.script("gpt-5", root)
    model_server.script("gpt-5-mini", lambda messages, request: "yes")
    return model_server


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {number}" for number in range(1, len(BLOCKS) + 1)])
def test_the_code_of_the_readme_runs(block, world, capsys):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert any(word in printed for word in ("Anna finds the key", "True [3]", "['one'] submitted 0"))


def test_the_files_that_the_readme_points_to_exist():
    ours = "https://github.com/rlm-adapters/rlm-adapters/blob/main/"
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert not [target for target in targets if not target.startswith("http")], "PyPI shows no relative links"
    pages = [target.removeprefix(ours) for target in targets if target.startswith(ours)]
    assert len(pages) >= 5
    for page in pages:
        name, _, anchor = page.partition("#")
        assert (ROOT / name).exists(), page
        headings = re.findall(r"^#+ (.*)$", (ROOT / name).read_text(), re.MULTILINE)
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings], page
