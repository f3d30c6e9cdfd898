"""Clocks of workers differ by an hour, and jump: nothing that is saved is taken for older than what was there."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.checkpoint.base import id as names

from rlm_adapters.errors import CheckpointError, ModelCallError
from rlm_adapters.graph import clocks
from tests.graph.leasing import THREAD, call, graph_of
from tests.langchain.savers import opened
from tests.server import Reply, cell

HOUR = 3_600
CELLS = [cell("a = llm_query('first')\nprint(a)"), cell("SUBMIT(a + llm_query('second'))")]


@pytest.fixture(
    params=[
        "sqlite",
        "async sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("async postgres", marks=pytest.mark.postgres),
    ]
)
def kind(request):
    return request.param


class Clock:
    """A clock that moves only when it is set, or somebody sleeps; LangGraph makes names of checkpoints by it."""

    def __init__(self, monkeypatch: Any) -> None:
        self._patch = monkeypatch
        self.now = time.time()
        self.slept: list[float] = []
        monkeypatch.setattr(names, "time", SimpleNamespace(time_ns=lambda: int(self.now * 1e9)))
        monkeypatch.setattr(clocks, "time", SimpleNamespace(sleep=self._sleep))
        monkeypatch.setattr(clocks, "asyncio", SimpleNamespace(sleep=self._asleep))

    def of_another_process(self, ahead: float) -> None:
        """From here on names are made as in a new process, on a machine whose clock is so many seconds ahead."""
        self._patch.setattr(names, "_last_v6_timestamp", None)
        self.now += ahead

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def _asleep(self, seconds: float) -> None:
        self._sleep(seconds)


@pytest.fixture
def clock(monkeypatch):
    made = Clock(monkeypatch)
    made.of_another_process(0)
    return made


def script(server: Any, *, fails: bool) -> None:
    """The second sub-call fails for good, which ends a run that can be resumed."""

    def sub(messages: list[dict[str, Any]], _: Any) -> Any:
        asked = messages[-1]["content"]
        return Reply("no such key", status=401) if fails and asked == "second" else f"<{asked}>"

    server.script("root", CELLS)
    server.script("sub", sub)


def state_of(used: Any, graph: Any) -> Any:
    return graph.get_state(THREAD) if used.runner is None else used.runner.run(graph.aget_state(THREAD))


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_clock_that_jumps_in_the_middle_of_a_run_does_it_no_harm(
    model_server, kind, location, tmp_path, clock, ahead
):
    def sub(messages: list[dict[str, Any]], _: Any) -> str:
        asked = messages[-1]["content"]
        clock.now += ahead if asked == "first" else -ahead
        return f"<{asked}>"

    model_server.script("root", CELLS)
    model_server.script("sub", sub)
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, str(tmp_path / "store"))
        assert call(used, graph, {"query": "q"})["answer"] == "<first><second>"
        state = state_of(used, graph)
        graph.close()
    assert (state.values["answer"], state.next) == ("<first><second>", ())


def test_a_worker_whose_clock_is_behind_takes_nothing_over(model_server, kind, location, tmp_path, clock):
    """What it saved would be lost: LangGraph takes the greatest name for the newest checkpoint."""
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, str(tmp_path / "store"))
        script(model_server, fails=True)
        with pytest.raises(ModelCallError, match="no such key"):
            call(used, graph, {"query": "q"})
        script(model_server, fails=False)
        clock.of_another_process(-HOUR)
        for given in (None, {"query": "again"}):
            with pytest.raises(CheckpointError, match=r"3,600 s ahead of this machine's.*Set the clocks"):
                call(used, graph, given)
        clock.of_another_process(HOUR + 1)
        assert call(used, graph, None)["answer"] == "<first><second>"
        assert state_of(used, graph).values["answer"] == "<first><second>"
        graph.close()
    assert clock.slept == []
    assert [one.messages[-1]["content"] for one in model_server.requests_of("sub")] == ["first", "second", "second"]


def test_a_worker_whose_clock_is_a_moment_behind_waits(model_server, kind, location, tmp_path, clock):
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, str(tmp_path / "store"))
        script(model_server, fails=True)
        with pytest.raises(ModelCallError, match="no such key"):
            call(used, graph, {"query": "q"})
        script(model_server, fails=False)
        clock.of_another_process(-2)
        assert call(used, graph, None)["answer"] == "<first><second>"
        assert state_of(used, graph).values["answer"] == "<first><second>"
        graph.close()
    assert sum(clock.slept) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["zzzz", "ffffffff-not-a-uuid", "~"])
def test_names_that_are_not_langgraphs_own_hold_nothing_up(name):
    found: Any = SimpleNamespace(checkpoint={"id": name})
    assert clocks._to_wait(found) == 0.0
