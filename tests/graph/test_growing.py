"""Checkpoints hold what a step adds: bytes grow with the iterations, and nothing of a thread's history is lost by it."""

import gzip
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Overwrite

from rlm_adapters import Limits, RLMError, create_rlm_graph
from rlm_adapters.errors import CheckpointError
from rlm_adapters.graph.state import RLMInput
from tests.server import cell, turn_of

THREAD = {"configurable": {"thread_id": "t"}}
FORM3 = Path(__file__).parent.parent / "data" / "form3.sqlite.gz"


def counting(last: int) -> Any:
    """A root LM that asks and prints in each turn, and submits what it has counted in the last one."""

    def root(messages: Any, _: Any) -> Any:
        turn = turn_of(messages)
        if turn == last:
            return cell("SUBMIT(seen)")
        begin = "seen = []\n" if turn == 0 else ""
        return cell(f"{begin}seen.append(llm_query('q {turn}'))\nprint('y' * 3000)")

    return root


@pytest.fixture
def make(model_server, chat, sandbox):
    model_server.script("sub", lambda messages, _: "a " + messages[-1]["content"])

    def graph(saver: Any, turns: int = 3, every: int | None = None) -> Any:
        model_server.script("root", counting(turns))
        limits = Limits(max_iterations=60)
        made = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=saver, limits=limits)
        if every is not None:
            for key in ("turns", "cells", "answers"):
                made.channels[key].snapshot_frequency = every
        return made

    return graph


def size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, tuple | list) else len(value) if hasattr(value, "__len__") else 8


def test_four_times_the_iterations_take_four_times_the_bytes_in_sqlite(make):
    with SqliteSaver.from_conn_string(":memory:") as saver:
        assert len(make(saver, turns=20).invoke({"query": "q", "context": "c"}, THREAD)["answer"]) == 20
        sizes = "select length(checkpoint) + length(metadata) from checkpoints order by checkpoint_id"
        bytes_ = [row[0] for row in saver.conn.execute(sizes)]
        added = "select sum(length(value)) from writes group by checkpoint_id order by checkpoint_id"
        written = [row[0] for row in saver.conn.execute(added)]
    for each in (bytes_, written):
        assert sum(each) <= 4.5 * sum(each[: len(each) // 4])


def test_and_in_memory(make):
    saver = InMemorySaver()
    bytes_ = {}
    for turns in (5, 20):
        make(saver, turns=turns).invoke({"query": "q"}, {"configurable": {"thread_id": str(turns)}})
        mine = [values for (thread, *_), values in saver.blobs.items() if thread == str(turns)]
        mine += [values for (thread, *_), values in saver.writes.items() if thread == str(turns)]
        bytes_[turns] = size(mine) + size(dict(saver.storage[str(turns)]))
    assert bytes_[20] <= 4.5 * bytes_[5]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("every", [1, 2, 50])
def test_a_run_goes_on_in_the_middle_of_a_cell(make, run, model_server, durability, every):
    saver = InMemorySaver()
    run(make(saver, 3, every), {"query": "q"}, THREAD, interrupt_before=["check_final"], durability=durability)
    for _ in range(2):
        graph = make(saver, 3, every)  # as another process would: nothing of the run is alive in it
        run(graph, None, THREAD, interrupt_before=["recurse"], durability=durability)
    values = graph.get_state(THREAD).values
    assert (len(values["turns"]), len(values["cells"]), values["iterations"]) == (2, 2, 3)
    assert run(make(saver, 3, every), None, THREAD, durability=durability)["answer"] == ["a q 0", "a q 1", "a q 2"]
    assert len(model_server.requests_of("sub")) == 3


@pytest.mark.parametrize("every", [2, 50])
def test_each_step_of_the_history_is_as_it_was_and_goes_on(make, every):
    with SqliteSaver.from_conn_string(":memory:") as saver:
        graph = make(saver, 3, every)
        seen = [
            (len(values["turns"]), len(values["cells"]), len(values["answers"]))
            for values in graph.stream({"query": "q"}, THREAD, stream_mode="values", output_keys=list(graph.channels))
            if "run_id" in values
        ]
        history = [state for state in graph.get_state_history(THREAD) if state.values.get("run_id")]
        found = [tuple(len(state.values[key]) for key in ("turns", "cells", "answers")) for state in history]
        assert found[::-1] == seen
        graph.rlm.sessions.close()
        for state in history[2::4]:
            assert make(saver, 3, every).invoke(None, state.config)["answer"] == ["a q 0", "a q 1", "a q 2"]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a larger graph"])
def test_a_call_that_saves_at_its_end_saves_one_whole_checkpoint(make, inside):
    """Two writes could be torn apart by a SIGKILL between them."""
    saver = InMemorySaver()
    graph = make(None if inside else saver, 2)
    if inside:
        builder = StateGraph(RLMInput)
        builder.add_node("rlm", graph)
        builder.add_edge(START, "rlm")
        graph = builder.compile(checkpointer=saver)
    graph.invoke({"query": "q"}, THREAD, durability="exit", interrupt_before=[] if inside else ["check_final"])
    assert len(saver.storage["t"][""]) == 1
    channels = {write[1] for writes in saver.writes.values() for write in writes.values()}
    assert not channels & {"turns", "cells", "answers"}


def test_what_a_client_writes_in_place_of_it_is_what_counts(make):
    saver = InMemorySaver()
    graph = make(saver)
    graph.invoke({"query": "q"}, THREAD, interrupt_before=["check_final"])
    graph.invoke(None, THREAD, interrupt_before=["check_final"])
    graph.update_state(THREAD, {"turns": Overwrite([])})
    graph.update_state(THREAD, {"turns": [{"reply": "seen", "observation": "nothing"}]})
    assert [turn["reply"] for turn in make(saver).get_state(THREAD).values["turns"]] == ["seen"]
    graph.update_state(THREAD, {"turns": None})
    assert make(saver).get_state(THREAD).values["turns"] == []


def test_a_second_question_begins_with_no_turns_and_the_journal_of_the_first(make):
    saver = InMemorySaver()
    for number in (1, 2):
        assert make(saver).invoke({"query": f"q{number}"}, THREAD)["answer"] == ["a q 0", "a q 1", "a q 2"]
        values = make(saver).get_state(THREAD).values
        assert (len(values["turns"]), len(values["cells"])) == (4, 4 * number)


def test_a_thread_whose_earlier_checkpoints_were_deleted_says_so(make):
    with SqliteSaver.from_conn_string(":memory:") as saver:
        make(saver).invoke({"query": "q"}, THREAD, interrupt_before=["check_final"])
        newest = "(select max(checkpoint_id) from checkpoints)"
        saver.conn.execute(f"delete from checkpoints where checkpoint_id <> {newest}")
        with pytest.raises(RLMError, match="of this run is not in the checkpointer any more") as refused:
            make(saver).invoke(None, THREAD)
        assert refused.type is CheckpointError


@pytest.mark.parametrize("how", ["goes on", "is asked again", "is edited", "goes on from an earlier step"])
def test_a_thread_that_an_earlier_version_saved(make, model_server, run, tmp_path, how):
    """Written by the commit before: two turns, and a third whose cell waits for the answer of a sub-LM."""
    path = tmp_path / "form3.sqlite"
    path.write_bytes(gzip.decompress(FORM3.read_bytes()))
    with sqlite3.connect(path, check_same_thread=False) as connection:
        graph = make(SqliteSaver(connection))
        model_server.script("sub", ["late"])
        code = ["x = 1", "y = 2", "z = llm_query('second?')\nSUBMIT([x, y, z])"]
        model_server.script("root", lambda messages, _: cell(code[turn_of(messages)]))
        state = graph.get_state(THREAD)
        assert (state.values["form"], state.next, len(state.values["turns"])) == (3, ("recurse",), 2)
        if how == "is asked again":
            model_server.script("root", [cell("SUBMIT([x, y])")])
            assert graph.invoke({"query": "And now?"}, THREAD)["answer"] == ["gold", "gold!"]
            return
        if how == "is edited":
            graph.update_state(THREAD, {"instructions": "be brief"})
        where: Any = THREAD
        if how == "goes on from an earlier step":
            where = next(s.config for s in graph.get_state_history(THREAD) if s.next == ("generate_code",))
        assert graph.invoke(None, where)["answer"] == ["gold", "gold!", "late"]
        values = make(SqliteSaver(connection)).get_state(THREAD).values
        assert (values["form"], len(values["turns"]), len(values["cells"])) == (4, 3, 3)
