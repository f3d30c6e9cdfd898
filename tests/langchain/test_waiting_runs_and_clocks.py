"""Runs that wait for tools expire by the time that goes by, not by a clock that is set forward."""

from datetime import UTC, datetime
from types import SimpleNamespace

from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters.effects import drive
from rlm_adapters.langchain import suspended

HOUR = 3_600


def test_a_clock_that_jumps_ends_no_run_that_waits_and_keeps_none_for_ever(monkeypatch):
    now = SimpleNamespace(wall=1e9, steady=50.0)
    monkeypatch.setattr(suspended, "time", SimpleNamespace(time=lambda: now.wall, monotonic=lambda: now.steady))
    runs = suspended.SuspendedRuns(InMemorySaver(), seconds=HOUR, count=9)
    drive(runs.take("a"))
    runs.put_back("a")
    for jump in (2 * HOUR, -3 * HOUR, HOUR):
        now.wall += jump
        assert drive(runs.sweep()) == []
        assert not runs.has_expired(datetime.fromtimestamp(1e9, UTC).isoformat())
    now.wall += HOUR + 1
    now.steady += HOUR + 1
    assert drive(runs.sweep()) == ["a"]
    assert runs.has_expired(datetime.fromtimestamp(1e9, UTC).isoformat())
