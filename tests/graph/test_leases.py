"""A thread is run by one call at a time: in this process, and in processes that are stopped and killed."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from rlm_adapters import InputError, LeaseLostError, ThreadBusyError, create_rlm_graph
from rlm_adapters.effects import adrive, drive
from rlm_adapters.graph.lease_places import DatabasePlace
from rlm_adapters.graph.leases import leased
from tests.graph.leasing import THREAD, call, graph_of
from tests.langchain.savers import opened
from tests.server import cell

KINDS = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("async postgres", marks=pytest.mark.postgres),
]
PLACES = ["memory", "sqlite file", "sqlite memory"]
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rlm-adapters lease'"
CODE = "x = llm_query('slow')\nSUBMIT(x)"
ASKED = {"query": "q"}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def scripted(model_server):
    model_server.script("root", [cell(CODE)])
    model_server.script("sub", ["gold"], latency=60)
    return model_server


@pytest.fixture(params=PLACES)
def saver(request, tmp_path):
    if request.param == "memory":
        yield InMemorySaver()
        return
    with SqliteSaver.from_conn_string(":memory:" if "memory" in request.param else str(tmp_path / "d.db")) as saver:
        yield saver


def until(true: Any) -> None:
    while not true():
        time.sleep(0.01)


def test_another_process_keeps_its_thread_while_it_lives_and_not_longer(scripted, kind, location, tmp_path):
    store = str(tmp_path / "store")
    command = [sys.executable, "-m", "tests.graph.leasing", kind, location, store, scripted.url]
    with opened(kind, location) as used, subprocess.Popen(command) as other:
        try:
            until(lambda: scripted.requests_of("sub") or other.poll() is not None)
            graph = graph_of(used, scripted.url, store)
            for stop in (False, True):
                if stop:
                    other.send_signal(signal.SIGSTOP)
                with pytest.raises(ThreadBusyError, match="thread 't' is being run by another call"):
                    call(used, graph, None)
            asked = len(scripted.requests)
        finally:
            other.kill()
            other.wait()
        scripted.script("sub", ["gold"])
        assert call(used, graph, None)["answer"] == "gold"
        graph.close()
    assert (asked, len(scripted.requests)) == (2, 3)  # the call that was in flight was asked again, nothing else


def both(graph: Any, form: str, given: Any) -> list[Any]:
    """The outcomes of two calls at the same time."""

    def one(_: int) -> Any:
        try:
            return graph.invoke(given, THREAD)["answer"]
        except ThreadBusyError as error:
            return error

    async def at_once() -> list[Any]:
        outcomes = await asyncio.gather(*(graph.ainvoke(given, THREAD) for _ in "12"), return_exceptions=True)
        return [one["answer"] if isinstance(one, dict) else one for one in outcomes]

    if form == "async":
        return asyncio.run(at_once())
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


@pytest.mark.parametrize("form", ["sync", "async"])
def test_of_two_calls_in_this_process_one_is_rejected(model_server, chat, sandbox, form):
    model_server.script("root", [cell("SUBMIT(llm_query('slow'))")])
    model_server.script("sub", ["gold"], latency=0.9)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=InMemorySaver())
    outcomes = both(graph, form, ASKED)
    assert "gold" in outcomes
    assert [type(one) for one in outcomes if one != "gold"] == [ThreadBusyError]
    assert len(model_server.requests_of("root")) == 1


def test_with_enqueue_the_second_one_waits(model_server, chat, sandbox, saver):
    model_server.script("root", [cell("SUBMIT(llm_query('slow'))")])
    model_server.script("sub", ["gold"], latency=0.1)
    graph = create_rlm_graph(
        chat("root"), chat("sub"), sandbox=sandbox, checkpointer=saver, multitask_strategy="enqueue"
    )
    assert both(graph, "sync", ASKED) == ["gold", "gold"]
    assert model_server.max_in_flight == 1
    assert len(graph.get_state(THREAD).values["questions"]) == 2


def test_other_threads_are_not_in_the_way(saver):
    first, second = (drive(leased(saver, thread, "reject")) for thread in ("1", "2"))
    with pytest.raises(ThreadBusyError):
        drive(leased(saver, "1", "reject"))
    drive(first.release())
    drive(leased(saver, "1", "reject")).release_soon()
    drive(second.release())


def test_two_savers_of_one_file_share_its_leases(tmp_path):
    path = str(tmp_path / "d.db")
    with SqliteSaver.from_conn_string(path) as one, SqliteSaver.from_conn_string(path) as two:
        lease = drive(leased(one, "t", "reject"))
        with pytest.raises(ThreadBusyError):
            drive(leased(two, "t", "reject"))
        drive(lease.release())
        drive(leased(two, "t", "reject")).release_soon()


async def test_an_event_loop_is_not_blocked(model_server, chat, tmp_path):
    model_server.script("root", [cell("SUBMIT(1)")])
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "d.db")) as saver:
        graph = create_rlm_graph(chat("root"), checkpointer=saver)
        with blockbuster_ctx():
            assert (await graph.ainvoke(ASKED, THREAD))["answer"] == 1
            (await adrive(leased(saver, "t", "reject"))).release_soon()
            lease = await adrive(leased(saver, "t", "enqueue"))
            await adrive(lease.release())
        graph.close()


async def test_a_saver_of_a_class_of_your_own_is_leased(tmp_path):
    class Audited(AsyncSqliteSaver):
        """What its name begins with says nothing."""

    async with Audited.from_conn_string(str(tmp_path / "d.db")) as saver:
        lease = await adrive(leased(saver, "t", "reject"))
        assert lease.of_processes
        with pytest.raises(ThreadBusyError):
            await adrive(leased(saver, "t", "reject"))
        await adrive(lease.release())


async def test_a_call_that_is_cancelled_while_it_waits_leaves_nothing(tmp_path):
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "d.db")) as saver:
        lease = await adrive(leased(saver, "t", "reject"))
        for pause in (0.0, 0.01, 0.03):
            waiting = asyncio.ensure_future(adrive(leased(saver, "t", "enqueue")))
            await asyncio.sleep(pause)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await adrive(lease.release())
        await adrive((await adrive(leased(saver, "t", "reject"))).release())


def test_a_call_that_fails_gives_its_lease_back(model_server, chat, sandbox, saver):
    model_server.script("root", [cell("SUBMIT(1)")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=saver)
    with pytest.raises(InputError):
        graph.invoke({"query": 7}, THREAD)
    graph.invoke(ASKED, THREAD, interrupt_before=["execute"])
    for _ in graph.stream(None, THREAD):
        break  # whoever looks at a part of it lets go of it
    assert graph.invoke(None, THREAD)["answer"] == 1


def test_savers_of_other_kinds_and_those_who_want_none_get_no_lease():
    class Server(InMemorySaver):
        """A server's own: it has a queue of its runs."""

    assert drive(leased(Server(), "t", "reject")) is None
    assert drive(leased(InMemorySaver(), "t", None)) is None


def test_an_unknown_strategy_is_refused(chat):
    with pytest.raises(InputError, match=r"multitask_strategy='wait' is unknown: use \"reject\", \"enqueue\", or None"):
        create_rlm_graph(chat("root"), multitask_strategy="wait")


@pytest.mark.postgres
def test_a_lost_connection_is_made_again_unless_another_call_has_come_first(postgres_url, tmp_path):
    import psycopg

    with opened("postgres", postgres_url) as used, psycopg.connect(postgres_url, autocommit=True) as admin:
        lease = drive(leased(used.saver, "lost", "reject"))
        admin.execute(END_SESSIONS)
        lease.check()
        admin.execute(END_SESSIONS)
        until(lambda: not admin.execute("select 1 from pg_locks where locktype = 'advisory'").fetchall())
        admin.execute("select pg_advisory_lock(%s)", [lease._place._keys[lease._name]])
        with pytest.raises(LeaseLostError, match="thread 'lost' was taken over by another call"):
            lease.check()
        drive(lease.release())


@pytest.mark.postgres
def test_a_lease_is_not_lost_to_a_write_of_the_same_call(postgres_url, monkeypatch):
    """The write began before the connection was lost, and is still under way when the lease is taken again."""
    import psycopg

    with (
        opened("postgres", postgres_url) as used,
        psycopg.connect(postgres_url) as writer,
        psycopg.connect(postgres_url, autocommit=True) as admin,
        ThreadPoolExecutor(1) as pool,
    ):
        lease = drive(leased(used.saver, "writes", "reject"))
        for statement in lease.fence.statements():
            writer.execute(*statement)
        met, look = threading.Event(), lease._place._nobody_writes
        monkeypatch.setattr(lease._place, "_nobody_writes", lambda key: (look(key), met.set())[0])
        admin.execute(END_SESSIONS)
        checked = pool.submit(lease.check)
        assert met.wait(30), "it takes the lease again, and meets the lock of the write"
        writer.rollback()
        checked.result(30)
        assert not DatabasePlace(postgres_url).take(lease._name)
        drive(lease.release())


@pytest.mark.postgres
def test_threads_can_be_taken_while_other_calls_have_not_noticed_that_the_connection_is_lost(postgres_url):
    import psycopg

    with opened("postgres", postgres_url) as used, psycopg.connect(postgres_url, autocommit=True) as admin:
        waiting = drive(leased(used.saver, "waits for a model", "reject"))
        admin.execute(END_SESSIONS)
        until(lambda: not admin.execute("select 1 from pg_locks where locktype = 'advisory'").fetchall())
        drive(drive(leased(used.saver, "comes now", "reject")).release())
        with pytest.raises(ThreadBusyError):
            drive(leased(used.saver, "waits for a model", "reject"))
        assert not DatabasePlace(postgres_url).take(waiting._name), "the other one is kept from other processes again"
        drive(waiting.release())
