"""A client of a server may edit the state of its thread, by JSON. What it writes is data, or refused; never a way out.

The store is shared with another thread, whose content and whose live session are what the attacks are after.
"""

import json

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from rlm_adapters import ContentStore, InputError, RLMError, create_rlm_graph
from rlm_adapters.values.refs import thread_owner
from tests.border.test_forged_references import FORMS, form
from tests.server import cell

SECRET = "the other tenant's secret " * 400
MINE = {"configurable": {"thread_id": "mine"}}


@pytest.fixture
def shared():
    store = ContentStore("memory://edited-states")
    yield store
    store.forget(thread_owner("mine"))


def stopped(chat, model_server, store, before, code="SUBMIT(str(v))", tools=()):
    """A run of a thread, stopped before a node."""
    model_server.script("root", [cell("print(1)"), cell(code), cell(code), cell(code)])
    graph = create_rlm_graph(chat("root"), chat("sub"), store=store, checkpointer=InMemorySaver(), tools=tools)
    graph.invoke({"query": "q", "inputs": {"v": "a value"}}, MINE, interrupt_before=[before])
    return graph


def test_the_secret_is_where_the_attacks_look_for_it(shared):
    ref = shared.put(SECRET, owner=thread_owner("other"))
    assert shared.get(ref) == SECRET


@form
def test_variables_that_spell_references_are_values(forged, model_server, chat, shared):
    shared.put(SECRET, owner=thread_owner("other"))
    graph = stopped(chat, model_server, shared, "execute", code="SUBMIT(v)")
    graph.update_state(MINE, {"variables": {"v": forged}}, as_node="generate_code")
    graph.rlm.sessions.close()
    assert graph.invoke(None, MINE)["answer"] == forged


@form
def test_files_that_spell_references_are_text_or_refused(forged, model_server, chat, shared):
    graph = stopped(chat, model_server, shared, "execute", code="SUBMIT(open('f').read())")
    graph.update_state(MINE, {"files": {"f": forged}}, as_node="generate_code")
    graph.rlm.sessions.close()
    if isinstance(forged, str):
        assert graph.invoke(None, MINE)["answer"] == forged
    else:
        with pytest.raises(RLMError, match="a file is text"):
            graph.invoke(None, MINE)


@form
def test_an_answer_of_a_tool_that_spells_a_reference_is_a_value(forged, model_server, chat, shared):
    def ask(what: str) -> object:
        """Ask a person."""
        return interrupt(what)

    model_server.script("root", [cell("a = ask('you')"), cell("SUBMIT(a)")])
    graph = create_rlm_graph(chat("root"), store=shared, checkpointer=InMemorySaver(), tools=[ask])
    graph.invoke({"query": "q", "context": "x"}, MINE)
    assert graph.invoke(Command(resume=forged), MINE)["answer"] == forged


RECORDS = {
    "no cell": [{"code": "print(2)"}],
    "a cell that is text": ["print(2)"],
    "code that is a dict": [
        {"code": {"$content": "/etc/passwd"}, "answers": {}, "failed": False, "stdout_sha256": "", "tip": ""}
    ],
    "answers that are text": [{"code": "x = 1", "answers": "no", "failed": False, "stdout_sha256": "", "tip": ""}],
    "an answer by reference": [
        {
            "code": "x = llm_query('p')",
            "answers": {"a": {"ref": "rlm-content-2 text 9 9 shared " + "0" * 64 + " "}},
            "failed": False,
            "stdout_sha256": "",
            "tip": "",
        }
    ],
    "an answer of a strange class": [
        {"code": "x = 1", "answers": {"a": {"failure": "no"}}, "failed": False, "stdout_sha256": "", "tip": ""}
    ],
    "a dict": {"code": "x"},
}


@pytest.mark.parametrize("cells", RECORDS.values(), ids=RECORDS)
def test_a_forged_journal_is_refused_with_the_remedy(cells, model_server, chat, shared):
    from langgraph.types import Overwrite

    graph = stopped(chat, model_server, shared, "execute")
    graph.update_state(MINE, {"cells": Overwrite(cells)}, as_node="generate_code")
    graph.rlm.sessions.close()
    with pytest.raises(RLMError, match="the state of this run was edited"):
        graph.invoke(None, MINE)


@pytest.mark.parametrize("described", ["[]", [], [{"name": "v"}], {"a": 1}, FORMS["the state form"]], ids=str)
def test_descriptions_of_a_client_s_are_refused(described, model_server, chat, shared):
    graph = create_rlm_graph(chat("root"), store=shared)
    if described:
        with pytest.raises(RLMError, match="described"):
            graph.invoke({"query": "q", "context": "x", "described": described})
    graph = stopped(chat, model_server, shared, "generate_code")
    graph.update_state(MINE, {"described": described}, as_node="prepare")
    with pytest.raises(RLMError, match="described"):
        graph.invoke(None, MINE)


@pytest.mark.parametrize("form_", [None, 1, 2, 5, "3", "4", True])
def test_a_state_of_another_version_is_refused(form_, model_server, chat, shared):
    graph = stopped(chat, model_server, shared, "execute")
    graph.update_state(MINE, {"form": form_}, as_node="generate_code")
    with pytest.raises(RLMError, match="another version of rlm-adapters"):
        graph.invoke(None, MINE)


def test_the_id_of_another_thread_s_run_does_not_give_its_live_session(model_server, chat, shared):
    model_server.script(
        "root", [cell("secret_note = 'of the other'"), cell("SUBMIT(str(globals().get('secret_note')))")]
    )
    graph = create_rlm_graph(chat("root"), store=shared, checkpointer=InMemorySaver())
    theirs = {"configurable": {"thread_id": "theirs"}}
    given = {"query": "q", "context": "x"}
    graph.invoke(given, theirs, interrupt_before=["execute"])
    graph.invoke(None, theirs, interrupt_before=["execute"])  # the first cell has run: the session stands after it
    graph.invoke(given, MINE, interrupt_before=["execute"])
    victim = graph.get_state(theirs).values
    live = len(graph.rlm.sessions)
    graph.update_state(
        MINE,
        {"run_id": victim["run_id"], "queue": ["SUBMIT(secret_note)"], "cells": [dict(victim["cells"][0])]},
        as_node="generate_code",
    )
    edited = graph.get_state(MINE).values
    edited["cells"][0]["code"] = "pass"
    graph.invoke(None, MINE, interrupt_before=["generate_code"])
    assert len(graph.rlm.sessions) >= live  # theirs was not taken out
    assert graph.invoke(None, theirs)["answer"] == "of the other"


THREADS = ["../../escape", "/etc", "a/b", "..", "x\0y", "", "C:\\x", "thread-" + "0" * 32, "shared", "x" * 5000, "日本"]


@pytest.mark.parametrize("thread", THREADS, ids=range(len(THREADS)))
def test_a_thread_s_id_becomes_no_path(thread, model_server, chat, tmp_path):
    store = ContentStore(tmp_path / "store")
    kept = store.put("kept " * 2000)
    model_server.script("root", [cell("SUBMIT(len(context))")])
    graph = create_rlm_graph(chat("root"), store=store, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": thread}}
    assert graph.invoke({"query": "q", "context": "x" * 9000}, config)["answer"] == 9000
    names = sorted(path.name for path in (tmp_path / "store").iterdir())
    assert len(names) == 2
    assert names[0] == "shared"
    assert names[1] == thread_owner(thread)
    graph.delete_thread(thread)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["shared"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert store.get(kept) == "kept " * 2000


def test_errors_of_the_store_name_the_run_and_the_key_but_no_path(model_server, chat, tmp_path):
    store = ContentStore(tmp_path / "store")
    model_server.script("root", [cell("print(1)"), cell("SUBMIT(context)")])
    graph = create_rlm_graph(chat("root"), store=store, checkpointer=InMemorySaver())
    graph.invoke({"query": "q " * 4000, "context": "x"}, MINE, interrupt_before=["generate_code"])
    run_id = graph.get_state(MINE).values["run_id"]
    (folder,) = (tmp_path / "store").iterdir()
    (file,) = folder.iterdir()
    file.unlink()
    store._recent.forget("")
    with pytest.raises(RLMError) as error:
        graph.invoke(None, MINE)
    assert run_id in str(error.value)
    assert file.name[:12] in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert json.dumps(str(error.value))


EARLIER = {
    "no list of questions": {"questions": "x"},
    "a question without keys": {"questions": [{}]},
    "a question that is none": {"questions": [7]},
    "cells that are none": {"cells": [1]},
    "names that are none": {"names": 5},
    "a seed that is none": {"seed": "x"},
    "a time that is none": {"epoch": "never"},
}


def asked_again(chat, model_server, store, edit):
    """The second question of a thread whose state somebody edited after the first."""
    model_server.script("root", lambda messages, request: cell("SUBMIT(1)"))
    graph = create_rlm_graph(chat("root"), store=store, checkpointer=InMemorySaver())
    graph.invoke({"query": "first", "context": "x"}, MINE)
    graph.update_state(MINE, edit)
    return graph.invoke({"query": "second"}, MINE)


@pytest.mark.parametrize("edit", EARLIER.values(), ids=EARLIER)
def test_what_is_remembered_may_be_edited_into_nonsense_which_is_refused(edit, model_server, chat, shared):
    with pytest.raises(InputError, match="the state of this run was edited"):
        asked_again(chat, model_server, shared, edit)


@pytest.mark.parametrize("edit", [{"questions": []}, {"finish_reason": "x"}, {"answer": {"$content": "/etc/passwd"}}])
def test_an_edit_of_what_is_remembered_that_can_be_used_is_used(edit, model_server, chat, shared):
    assert asked_again(chat, model_server, shared, edit)["answer"] == 1


@pytest.mark.parametrize("edit", [{"questions": []}, {"questions": [{}]}], ids=["none", "empty"])
def test_the_questions_of_a_run_that_goes_on_may_be_edited_into_nonsense(edit, model_server, chat, shared):
    graph = stopped(chat, model_server, shared, "execute")
    graph.update_state(MINE, edit, as_node="generate_code")
    graph.rlm.sessions.close()
    with pytest.raises(InputError, match="edited"):
        graph.invoke(None, MINE)
