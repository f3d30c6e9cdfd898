"""docs/storage.md is true: its code runs as it stands, one block after the other."""

import re
from pathlib import Path

from rlm_adapters.values.content import INLINE_CHARS

TEXT = (Path(__file__).parent.parent / "docs" / "storage.md").read_text()


def test_its_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "storage.md", "exec"), names)


def test_its_numbers_are_those_of_the_code():
    assert f"above {INLINE_CHARS:,} characters" in TEXT
