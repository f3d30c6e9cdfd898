"""The content store."""

import subprocess
import sys

import pytest

from rlm_adapters import ContentRef, ContentStore, InputError
from rlm_adapters.errors import ContentError
from rlm_adapters.values.refs import run_owner, thread_owner


@pytest.fixture(params=["private", "path", "memory"])
def store(request, tmp_path):
    places = {"private": None, "path": tmp_path / "store", "memory": f"memory://{request.node.name}"}
    return ContentStore(places[request.param])


@pytest.mark.parametrize(
    "value",
    ["text", "", "größer 漢字 😀" * 100, b"\x00\xff", ["a", "b"], [{"k": [1, 2.5, None, True]}], {"a": {"b": "c"}}, 7],
)
def test_what_is_put_is_got(store, value):
    assert store.get(store.put(value)) == value


def test_equal_values_are_stored_once(store):
    assert store.put("x" * 10_000) == store.put("x" * 10_000)


def test_small_values_stay_in_the_state_and_big_ones_become_references(store):
    owned = store.of(thread_owner("1"))
    assert owned.pack("short") == "short"
    assert owned.pack({"a": 1}) == {"a": 1}
    packed = owned.pack("x" * 10_000)
    assert isinstance(packed, bytes)
    assert len(packed) < 200
    assert owned.unpack(packed) == "x" * 10_000
    again = owned.pack(packed)  # bytes of a user's, whatever they spell, are stored themselves
    assert again != packed
    assert owned.unpack(again) == packed


@pytest.mark.parametrize("value", ["a" * 5000, "größer 漢字 😀" * 1000, b"\x00\xff" * 4000])
def test_what_a_caller_holds_is_kept_as_it_is_where_no_saver_is(store, value):
    owned = store.of(run_owner())
    packed = owned.pack_given(value)
    ref = ContentRef.from_state(packed)
    assert owned.unpack(packed) is value
    assert store.known(ref) is store.kept(ref) is value
    assert (ref.size, ref.nbytes) == (len(value), len(value if isinstance(value, bytes) else value.encode()))
    store.check(ref)
    with pytest.raises(ContentError, match="in memory"):
        store.path(ref)
    assert owned.pack_given(value) != packed  # a key of its own: nobody can guess it
    owned.forget()
    for look in (store.get, store.check, store.path):
        with pytest.raises(ContentError, match="not in the content store"):
            look(ref)


def test_what_a_saver_refers_to_is_stored(store):
    owned = store.of(thread_owner("1"))
    ref = ContentRef.from_state(owned.pack_given("x" * 10_000))
    assert store.kept(ref) is None
    assert store.path(ref).read_text() == "x" * 10_000
    assert owned.pack_given("short") == store.of(run_owner()).pack_given("short") == "short"


def test_a_text_longer_than_one_slice_is_counted_and_kept_whole(store):
    text = "é" * (9 << 20)
    ref = store.put(text)
    assert ref.size == 9 << 20
    assert store.get(ref) == text


def test_damaged_content_is_noticed(store):
    for value, damage in (("precious", b"damaged!"), ("more than that", b"less"), ("less", b"more than that")):
        ref = store.put(value)
        path = store.path(ref)
        path.write_bytes(damage)
        store._recent.forget("")
        with pytest.raises(ContentError, match="damaged"):
            store.get(ref)
        with pytest.raises(ContentError, match="damaged"):
            store.path(ref)


def test_missing_content_names_the_store(store):
    for owner in ("shared", thread_owner("gone"), run_owner()):
        with pytest.raises(ContentError, match="is not in the content store"):
            store.get(ContentRef("0" * 64, "text", 1, 1, owner))


def test_what_is_no_json_value_is_refused_with_the_remedy(store):
    with pytest.raises(InputError, match="JSON values"):
        store.put([object()])


def test_a_remote_store_serves_another_process_s_cache():
    first = ContentStore("memory://shared")
    ref = first.put("hello")
    assert ContentStore("memory://shared").get(ref) == "hello"


def test_a_private_store_is_removed_at_the_end_of_its_process_and_after_a_kill(tmp_path):
    code = "from rlm_adapters import ContentStore\ns = ContentStore()\ns.put('x')\nprint(s._place.root, flush=True)\n"
    environment = {"TMPDIR": str(tmp_path), "PATH": ""}
    for end in ("", "import os; os.kill(os.getpid(), 9)"):
        subprocess.run([sys.executable, "-c", code + end], env=environment, check=False, capture_output=True)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []
