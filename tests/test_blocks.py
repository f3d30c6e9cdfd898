"""Each Python block of the README and the docs can be pasted alone: it names nothing that it does not define."""

import re
import subprocess
import sys

import pytest

from tests.test_readme import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "examples" / "README.md", *(ROOT / "docs").glob("*.md")])
CORPUS = ROOT / "docs" / "replies.md"
"""Its blocks are replies of models, some of them broken on purpose; tests/replies reads them."""
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_blocks.py")


def blocks_of(path):
    return re.findall(r"^ *```python\n(.*?)^ *```", path.read_text(), re.DOTALL | re.MULTILINE)


def undefined(folder):
    """What ruff says of names that the files of a folder do not define, and of syntax errors."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F823,F404"]
    return subprocess.run(
        [*command, "--output-format", "concise", folder], capture_output=True, text=True, check=False
    ).stdout


def test_no_block_names_what_it_does_not_define(tmp_path):
    count = 0
    for path in PAGES:
        for number, block in enumerate(blocks_of(path) if path != CORPUS else (), 1):
            (tmp_path / f"{path.stem}_{number}.py").write_text(block)
            count += 1
    assert count > 40
    assert undefined(tmp_path) == "All checks passed!\n"


def test_a_name_of_an_earlier_block_is_found(tmp_path):
    (tmp_path / "page_2.py").write_text("print(graph)\n")
    assert "Undefined name `graph`" in undefined(tmp_path)


@pytest.mark.parametrize("path", [path for path in PAGES if blocks_of(path)], ids=lambda path: path.name)
def test_the_blocks_of_the_page_are_run_by_a_test(path):
    assert f'{path.name}"' in TESTS or f'"{path.stem}"' in TESTS
