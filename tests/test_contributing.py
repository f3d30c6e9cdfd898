"""CONTRIBUTING.md leads to files that exist, and each row to files that speak of what it is about."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_files_that_it_names_exist():
    names = set(re.findall(r"`((?:rlm_adapters|tests|requirements)/[\w/.]*)`", TEXT))
    names |= set(re.findall(r"\]\(((?!http)[^)]+)\)", TEXT))
    assert len(names) > 25
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def test_the_targets_that_it_names_exist():
    targets = set(re.findall(r"`make ([a-z-]+)`", TEXT))
    makefile = (ROOT / "Makefile").read_text()
    assert {"lock", "test-server"} <= targets
    assert [name for name in sorted(targets) if not re.search(rf"^{name}\b.*:", makefile, re.MULTILINE)] == []
