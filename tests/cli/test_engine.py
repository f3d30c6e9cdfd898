"""What the commands that ask have in common."""

import asyncio
import time

import pytest

from rlm_adapters.cli import engine
from rlm_adapters.errors import InputError


@pytest.fixture
def slow(monkeypatch):
    load = engine.load_paths
    monkeypatch.setattr(engine, "_LONG_SECONDS", 0.01)
    monkeypatch.setattr(engine, "load_paths", lambda paths: (time.sleep(0.3), load(paths))[1])


def test_inputs_that_take_long_are_said_to(slow, tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    notes = []
    given = asyncio.run(engine.load_inputs([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], notes.append))
    assert notes == [f"reading {tmp_path / 'a.txt'} and 1 more takes a while"]
    assert "one" in str(given["context"])


def test_what_is_quick_says_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    notes = []
    asyncio.run(engine.load_inputs([str(tmp_path / "a.txt")], notes.append))
    assert notes == []


def test_what_cannot_be_read_is_told_after_a_while_too(slow, tmp_path):
    with pytest.raises(InputError, match="missing"):
        asyncio.run(engine.load_inputs([str(tmp_path / "missing.txt")], lambda note: None))
