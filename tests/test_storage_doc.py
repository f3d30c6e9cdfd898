"""docs/storage.md is true: each block runs in an empty file."""

import re
from pathlib import Path

from rlm_adapters.values.content import INLINE_CHARS

TEXT = (Path(__file__).parent.parent / "docs" / "storage.md").read_text()


def test_its_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "storage.md", "exec"), {})


def test_its_numbers_are_those_of_the_code():
    assert f"above {INLINE_CHARS:,} characters" in TEXT
