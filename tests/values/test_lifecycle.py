"""The life of stored content: who can read it, how long it stays, and that deleting it hits nothing else."""

import asyncio
import gc
import os
import stat
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from blockbuster import blockbuster_ctx
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from rlm_adapters import ContentStore, InputError, create_rlm_graph
from rlm_adapters.errors import ContentError
from rlm_adapters.values import places
from rlm_adapters.values.refs import run_owner, thread_owner
from tests.server import cell, question_text, turn_of

SECRET = "the secret of the thread " * 1000


def thread(name):
    return {"configurable": {"thread_id": name}}


def everything(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_local_store_is_for_its_user_alone(tmp_path):
    store = ContentStore(tmp_path / "a" / "store")
    store.put(SECRET)
    store.put(SECRET, owner=thread_owner("1"))
    for path in (tmp_path / "a" / "store").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "a" / "store").stat().st_mode) == 0o700


def test_making_a_store_touches_no_file(tmp_path):
    ContentStore(tmp_path / "store")
    ContentStore("nowhere://x")
    assert list(tmp_path.iterdir()) == []


def test_a_thread_that_is_deleted_while_a_value_is_written_is_no_error_of_the_writer(tmp_path, monkeypatch):
    store, owner = ContentStore(tmp_path / "store"), thread_owner("1")
    find = store._place.find

    def deleted_in_this_moment(*place):
        found = find(*place)
        store.delete_thread("1")
        return found

    monkeypatch.setattr(store._place, "find", deleted_in_this_moment)
    ref = store.put(SECRET, owner=owner)
    with pytest.raises(ContentError, match="deleted content cannot be restored"):
        ContentStore(tmp_path / "store").get(ref)


@pytest.mark.parametrize("place", ["path", "memory"])
def test_deleting_a_thread_leaves_what_another_thread_has_of_the_same_content(place, model_server, chat, tmp_path):
    store = ContentStore(tmp_path if place == "path" else "memory://lifecycle-two-threads")
    model_server.script("root", [cell("print(1)"), cell("SUBMIT(context[:10] + llm_query(context)[:3])")])
    model_server.script("sub", lambda messages, request: "yes " * 2000)
    graph = create_rlm_graph(chat("root"), chat("sub"), store=store, checkpointer=InMemorySaver())
    for name in ("one", "two"):
        graph.invoke({"query": "q", "context": SECRET}, thread(name), interrupt_before=["execute"])
    graph.delete_thread("one")
    assert graph.get_state(thread("one")).values == {}
    graph.rlm.sessions.close()
    assert graph.invoke(None, thread("two"))["answer"] == SECRET[:10] + "yes"
    graph.delete_thread("two")
    graph.delete_thread("two")  # again is no fault
    assert store.sweep(older_than=0) == 0


async def test_deleting_a_thread_async(model_server, chat, tmp_path):
    model_server.script("root", [cell("SUBMIT(len(context))")])
    graph = create_rlm_graph(chat("root"), store=ContentStore(tmp_path), checkpointer=InMemorySaver())
    await graph.ainvoke({"query": "q", "context": SECRET}, thread("one"))
    assert SECRET.encode() in everything(tmp_path)
    await graph.adelete_thread("one")
    assert everything(tmp_path) == b""


def test_a_graph_without_a_saver_of_its_own_says_how_to_delete_a_thread(chat):
    with pytest.raises(InputError, match=r"ContentStore\.delete_thread"):
        create_rlm_graph(chat("root")).delete_thread("one")


@pytest.mark.parametrize("outcome", ["answer", "error"])
def test_what_nobody_saves_goes_with_the_run(outcome, model_server, chat, tmp_path):
    model_server.script("root", [cell("SUBMIT(llm_query(context)[:2])")] if outcome == "answer" else [])
    model_server.script("sub", ["no " * 4000])
    graph = create_rlm_graph(chat("root"), chat("sub"), store=ContentStore(tmp_path))
    if outcome == "answer":
        assert graph.invoke({"query": "q", "context": SECRET})["answer"] == "no"
    else:
        with pytest.raises(Exception, match="turns"):
            graph.invoke({"query": "q", "context": SECRET})
    assert list(tmp_path.iterdir()) == []


TEXTS = {
    "ascii": SECRET,
    "wide": "größer 漢字 😀 " * 1000,
    "surrogates": "lone \ud800 " * 1000,
    "bytes": b"\0\xff" * 4000,
}


@pytest.mark.parametrize("door", ["invoke", "ainvoke"])
@pytest.mark.parametrize("value", TEXTS.values(), ids=TEXTS)
async def test_text_given_to_a_run_that_nobody_saves_is_written_nowhere(
    door, value, model_server, chat, sandbox, tmp_path
):
    found = []

    def root(messages, request):
        found.append(list(tmp_path.iterdir()))
        return cell("SUBMIT([type(context).__name__, len(context), str(context[:12]), open('a.bin', 'rb').read(3)[0]])")

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), store=ContentStore(tmp_path), sandbox=sandbox)
    given = {"query": "q", "context": value, "files": {"a.bin": b"\1\2\3" * 3000}}
    result = graph.invoke(given) if door == "invoke" else await graph.ainvoke(given)
    seen = value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
    assert result["answer"] == [type(value).__name__, len(value), str(seen[:12]), 1]
    assert found == [[]]
    assert list(tmp_path.iterdir()) == []
    assert graph.rlm.store._kept._values == {}


def test_a_child_run_and_a_new_worker_share_what_is_kept_in_memory(model_server, chat, sandbox, tmp_path):
    big, holders = SECRET * 200, []  # more than a worker decodes itself: a process holds it

    def root(messages, request):
        holders.append(len(sandbox._held_inputs._held))
        if "child question" in question_text(messages):
            return cell("SUBMIT(len(context))")
        if not turn_of(messages):
            return cell("child = rlm_query('child question', context)\nprint('asked')")
        for kept in list(graph.rlm.sessions._kept.values()):
            kept.session.kill()
        return cell("SUBMIT([len(context), int(child)])")

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), store=ContentStore(tmp_path), sandbox=sandbox, limits={"max_depth": 2})
    assert graph.invoke({"query": "q", "context": big})["answer"] == [len(big), len(big)]
    assert holders[1:] == [1, 1]
    assert list(tmp_path.iterdir()) == []


def test_content_is_sealed_with_the_saver_s_cipher(model_server, chat, tmp_path):
    saver = InMemorySaver(serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"))
    model_server.script(
        "root", [cell("print(context)"), cell("SUBMIT([len(context), llm_query(context)[:3], len(rows)])")]
    )
    model_server.script("sub", lambda messages, request: "sub answer of the thread " * 1000)
    graph = create_rlm_graph(chat("root"), chat("sub"), store=ContentStore(tmp_path), checkpointer=saver)
    given = {"query": "q", "context": SECRET, "inputs": {"rows": [SECRET] * 3}, "files": {"f": SECRET.encode()}}
    graph.invoke(given, thread("one"), interrupt_before=["execute"])
    graph.rlm.sessions.close()  # the rest is replayed in a new worker, from sealed content
    assert graph.invoke(None, thread("one"))["answer"] == [len(SECRET), "sub", 3]
    stored = everything(tmp_path)
    assert len(stored) > 5 * len(SECRET)
    assert b"secret of the thread" not in stored
    assert b"answer of the thread" not in stored


def test_sealed_content_needs_the_cipher_and_the_right_key(tmp_path):
    def cipher(key):
        return EncryptedSerializer.from_pycryptodome_aes(key=key).cipher

    ref = ContentStore(tmp_path, cipher=cipher(b"0" * 16)).put(SECRET)
    assert ref.cipher == "aes"
    assert ContentStore(tmp_path, cipher=cipher(b"0" * 16)).get(ref) == SECRET
    with pytest.raises(ContentError, match="is sealed with 'aes'"):
        ContentStore(tmp_path).get(ref)
    with pytest.raises(ContentError, match="cannot be unsealed"):
        ContentStore(tmp_path, cipher=cipher(b"1" * 16)).get(ref)
    with pytest.raises(ContentError, match="is sealed"):
        ContentStore(tmp_path, cipher=cipher(b"0" * 16)).path(ref)


@pytest.mark.parametrize("place", ["path", "memory"])
def test_content_that_is_too_old_is_swept_and_the_rest_stays(place, tmp_path):
    location = tmp_path if place == "path" else "memory://lifecycle-sweep"
    store = ContentStore(location)
    old = store.put("old " * 2000, owner=thread_owner("old"))
    time.sleep(0.3)
    new = store.put("new " * 2000, owner=thread_owner("new"))
    assert store.sweep(older_than=0.2) == 1
    assert store.get(new) == "new " * 2000
    with pytest.raises(ContentError, match="is not in the content store"):
        store.get(old)


def test_a_time_to_live_is_kept_by_the_next_process(tmp_path):
    ContentStore(tmp_path).put(SECRET, owner=thread_owner("old"))
    folder = tmp_path / thread_owner("old")
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))
    ContentStore(tmp_path, ttl=timedelta(hours=2)).put("x")
    assert folder.exists()
    ContentStore(tmp_path, ttl=timedelta(minutes=30)).put("x")
    assert not folder.exists()


@pytest.mark.parametrize("place", ["path", "memory"])
def test_a_process_whose_clock_is_wrong_sweeps_nothing_that_others_need(place, tmp_path, monkeypatch):
    location = tmp_path if place == "path" else "memory://lifecycle-clock"
    ref = ContentStore(location).put(SECRET, owner=thread_owner("in use"))
    for ahead in (3_600, -3_600):
        monkeypatch.setattr(places, "time", SimpleNamespace(time=lambda ahead=ahead: time.time() + ahead))
        ContentStore(location, ttl=timedelta(minutes=30)).put("x", owner=thread_owner("new"))
        assert ContentStore(location).get(ref) == SECRET


def test_what_an_unsaved_run_of_a_killed_process_left_is_swept_after_a_day(tmp_path):
    owners = run_owner(), run_owner()
    for owner in owners:
        ContentStore(tmp_path).put(SECRET, owner=owner)
    two_days_ago = time.time() - 2 * 86_400
    os.utime(tmp_path / owners[0], (two_days_ago, two_days_ago))
    ContentStore(tmp_path).put("x")
    assert not (tmp_path / owners[0]).exists()
    assert (tmp_path / owners[1]).exists()


def test_several_processes_write_and_delete_in_one_store(tmp_path):
    code = (
        "import sys\n"
        "from rlm_adapters import ContentStore\n"
        "from rlm_adapters.values.refs import thread_owner\n"
        "store = ContentStore(sys.argv[1])\n"
        "mine, kept = thread_owner('mine' + sys.argv[2]), thread_owner('kept' + sys.argv[2])\n"
        "for i in range(40):\n"
        "    ref = store.put('equal ' * 1000 + str(i), owner=kept)\n"
        "    store.put('equal ' * 1000 + str(i), owner=mine)\n"
        "    store.forget(mine)\n"
        "    assert store.get(ref) and store.path(ref)\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 3
    assert not list(tmp_path.rglob("*.part"))


def test_a_thread_is_deleted_while_others_write(tmp_path):
    store = ContentStore(tmp_path)
    stop = threading.Event()
    failures = []

    def write(number):
        while not stop.is_set():
            try:
                store.put(f"{number}" * 5000, owner=thread_owner(number % 2))
            except ContentError as error:  # its folder went while it wrote: said clearly
                if "cannot be written" not in str(error):
                    failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for _ in range(50):
        store.forget(thread_owner(0))
    stop.set()
    for one in threads:
        one.join()
    assert not failures
    assert store.get(store.put("after", owner=thread_owner(1))) == "after"


@pytest.mark.parametrize("ttl", [-1, float("nan"), "1 day", True])
def test_an_impossible_time_to_live_is_refused(ttl):
    with pytest.raises(InputError, match="not a time to live"):
        ContentStore(ttl=ttl)


def test_a_place_that_cannot_be_written_is_named_without_its_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ContentError, match=r"cannot be written: .*; check that the content store") as error:
        ContentStore(tmp_path / "file").put(SECRET)
    assert str(tmp_path) not in str(error.value)
    with pytest.raises(InputError, match="cannot be opened"):
        ContentStore("nowhere://x").put(SECRET)


async def test_a_private_store_that_goes_away_on_an_event_loop_does_not_block_it():
    """Its files are removed when the next private store makes its directory."""
    with blockbuster_ctx():
        store = ContentStore()
        ref = await store.aput("x" * 10_000)
        root = (await asyncio.to_thread(store.path, ref)).parents[1]
        del store
        gc.collect()
        other = ContentStore()
        await other.aput("y" * 10_000)
    assert not root.exists()
    other.close()


def test_what_is_left_then_is_removed_at_the_end_of_the_process():
    code = """if True:
        import asyncio, gc
        from rlm_adapters import ContentStore
        async def main():
            store = ContentStore()
            print(store.path(await store.aput("x" * 10_000)).parents[1])
            del store
            gc.collect()
        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    root = Path(done.stdout.strip())
    assert root.name.startswith("rlm-content-")
    assert not root.exists()
    assert done.stderr == ""
