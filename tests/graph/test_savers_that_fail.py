"""The database is full, or restarted, in the middle of a run: a clear error, and the run can be resumed."""

import sqlite3
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from rlm_adapters import create_rlm_graph
from tests.graph.leasing import THREAD, call, graph_of
from tests.langchain.savers import opened
from tests.server import cell

CELLS = [cell("a = llm_query('first')\nprint(a)"), cell("SUBMIT(a + llm_query('second'))")]


def answers(messages: list[dict[str, Any]], _: Any) -> str:
    return f"<{messages[-1]['content']}>"


def test_a_run_whose_disk_was_full_goes_on_when_there_is_room(model_server, chat, sandbox, tmp_path):
    model_server.script("root", CELLS)
    with SqliteSaver.from_conn_string(str(tmp_path / "d.db")) as saver:

        def sub(messages: list[dict[str, Any]], request: Any) -> str:
            if messages[-1]["content"] == "second":
                with saver.lock:
                    (pages,) = saver.conn.execute("pragma page_count").fetchone()
                    saver.conn.execute(f"pragma max_page_count = {pages}").fetchone()
            return answers(messages, request)

        model_server.script("sub", sub)
        graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=saver)
        with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
            graph.invoke({"query": "q"}, THREAD)
        model_server.script("sub", answers)
        saver.conn.execute("pragma max_page_count = 1000000").fetchone()
        assert graph.invoke(None, THREAD)["answer"] == "<first><second>"
    asked = [one.messages[-1]["content"] for one in model_server.requests_of("sub")]
    assert asked in (["first", "second"], ["first", "second", "second"])  # what was in flight, nothing else


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["postgres", "async postgres"])
def test_a_run_whose_database_was_restarted_can_be_resumed(model_server, kind, location, tmp_path):
    import psycopg

    def restart(messages: list[dict[str, Any]], request: Any) -> str:
        """What clients see of it: every session ends."""
        if messages[-1]["content"] == "second":
            with psycopg.connect(location, autocommit=True) as admin:
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )
        return answers(messages, request)

    model_server.script("root", CELLS)
    model_server.script("sub", restart)
    store = str(tmp_path / "store")
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, store)
        with pytest.raises(psycopg.OperationalError):
            call(used, graph, {"query": "q"})
        graph.close()
    model_server.script("sub", answers)
    with opened(kind, location) as used:
        graph = graph_of(used, model_server.url, store)
        assert call(used, graph, None)["answer"] == "<first><second>"
        graph.close()
    assert [one.messages[-1]["content"] for one in model_server.requests_of("sub")] == ["first", "second", "second"]
