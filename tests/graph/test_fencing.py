"""A worker whose lease was lost while it stood still writes nothing more to the thread."""

import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from rlm_adapters.effects import drive
from rlm_adapters.graph.lease_places import DatabasePlace
from rlm_adapters.graph.leases import leased
from tests.graph.leasing import THREAD, call, graph_of
from tests.langchain.savers import opened
from tests.server import cell

pytestmark = pytest.mark.postgres
_SESSIONS = "from pg_stat_activity where application_name = 'rlm-adapters lease' and datname = current_database()"


@pytest.fixture(params=["postgres", "async postgres"])
def kind(request):
    return request.param


def until(true: Any) -> None:
    end = time.monotonic() + 180
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def end_lease_sessions(location: str) -> None:
    """As an idle timeout, a proxy or an administrator does."""
    import psycopg

    with psycopg.connect(location, autocommit=True) as admin:
        assert admin.execute(f"select pg_terminate_backend(pid) {_SESSIONS}").fetchall()
        until(lambda: not admin.execute(f"select pid {_SESSIONS}").fetchall())


def rows(location: str) -> list[Any]:
    import psycopg

    with psycopg.connect(location) as db:
        found = db.execute("select checkpoint_ns, checkpoint_id from checkpoints order by 1, 2").fetchall()
        written = db.execute("select checkpoint_id, task_id, idx, channel from checkpoint_writes order by 1, 2, 3")
        return [*found, *written.fetchall()]


@pytest.mark.parametrize("while_other_runs", [False, True], ids=["after the other", "while the other runs"])
def test_a_worker_that_stood_still_while_another_took_over_writes_nothing(
    model_server, kind, location, tmp_path, while_other_runs
):
    model_server.script("root", [cell("x = llm_query('first')\nprint(x)"), cell("SUBMIT(llm_query('second'))")])
    model_server.script("sub", lambda messages, _: f"<{messages[-1]['content']}>", latency=1.0)
    store = str(tmp_path / "store")
    command = [sys.executable, "-m", "tests.graph.leasing", kind, location, store, model_server.url]
    with opened(kind, location) as used, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as stopped:
        try:
            until(lambda: model_server.requests_of("sub") or stopped.poll() is not None)
            assert stopped.poll() is None, stopped.stderr.read()
            time.sleep(0.3)  # what it writes at the same time is done
            stopped.send_signal(signal.SIGSTOP)
            end_lease_sessions(location)
            graph = graph_of(used, model_server.url, store, multitask_strategy="reject")
            if while_other_runs:
                running = subprocess.Popen(
                    [*command[:3], kind, location, store, model_server.url, "resume"], stderr=subprocess.PIPE, text=True
                )
                until(lambda: len(model_server.requests_of("sub")) == 2)
                time.sleep(0.3)  # the reply to the one that stands still has come
                stopped.send_signal(signal.SIGCONT)
                told = stopped.communicate(timeout=30)[1]
                assert running.wait(30) == 0, running.stderr.read()
            else:
                assert call(used, graph, None)["answer"] == "<second>"
                before = rows(location)
                stopped.send_signal(signal.SIGCONT)
                told = stopped.communicate(timeout=30)[1]
                assert rows(location) == before
        finally:
            stopped.kill()
        state = graph.get_state(THREAD) if used.runner is None else used.runner.run(graph.aget_state(THREAD))
        graph.close()
    assert "LeaseLostError: thread 't' was taken over by another call" in told
    assert (state.values["answer"], state.next) == ("<second>", ())
    asked = [one.messages[-1]["content"] for one in model_server.requests_of("sub")]
    assert sorted(asked)[:3] == ["first", "first", "second"]
    assert len(asked) <= 4  # the step that begins while the write is refused


def test_a_lease_that_was_lost_and_is_free_again_goes_on(model_server, kind, location, tmp_path):
    model_server.script("root", [cell("SUBMIT(llm_query('slow'))")])

    def sub(*_: Any) -> str:
        end_lease_sessions(location)
        return "gold"

    model_server.script("sub", sub)
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, str(tmp_path / "store"))
        assert call(used, graph, {"query": "q"})["answer"] == "gold"
        graph.close()
    assert len(model_server.requests) == 2


def test_a_write_that_is_under_way_keeps_the_thread_from_the_next_one(postgres_url):
    """Its transaction has looked at the lease; what it commits must be seen by whoever comes next."""
    import psycopg

    with opened("postgres", postgres_url) as used, psycopg.connect(postgres_url) as writer:
        lease = drive(leased(used.saver, "under way", "reject"))
        other = DatabasePlace(postgres_url)
        for statement in lease.fence.statements():
            writer.execute(*statement)
        end_lease_sessions(postgres_url)
        assert not other.take(lease._name)
        writer.rollback()
        assert other.take(lease._name)
        _, look = lease.fence.statements()
        with pytest.raises(psycopg.errors.DivisionByZero):
            writer.execute(*look)
        other.free(lease._name)
        drive(lease.release())


def test_what_is_written_through_the_fence_keeps_the_path_of_its_task(model_server, kind, location, tmp_path):
    """LangGraph orders the writes of a step by it."""
    import psycopg

    model_server.script("root", [cell("SUBMIT(llm_query_batched(['a', 'b']))")])
    model_server.script("sub", "gold")
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, str(tmp_path / "store"))
        call(used, graph, {"query": "q"})
        graph.close()
    with psycopg.connect(location) as db:
        found = db.execute("select distinct task_path from checkpoint_writes where channel = 'answers'").fetchall()
    paths = [path for (path,) in found]
    assert "" not in paths
    assert sum("push" in path for path in paths) == 2
