"""The content store."""

import subprocess
import sys

import pytest

from rlm_adapters import ContentRef, ContentStore, InputError, RLMError


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
    assert store.pack("short") == "short"
    assert store.pack({"a": 1}) == {"a": 1}
    packed = store.pack("x" * 10_000)
    assert len(str(packed)) < 200
    assert store.unpack(packed) == "x" * 10_000
    assert store.pack(packed) is packed


def test_a_text_longer_than_one_slice_is_counted_and_kept_whole(store):
    text = "é" * (9 << 20)
    ref = store.put(text)
    assert ref.size == 9 << 20
    assert store.get(ref) == text


def test_damaged_content_is_noticed(store):
    ref = store.put("precious")
    store.path(ref).write_bytes(b"damaged!")
    with pytest.raises(RLMError, match="damaged"):
        store.get(ref)


def test_missing_content_names_the_store(store):
    with pytest.raises(RLMError, match="is not in the store"):
        store.get(ContentRef("0" * 64, "text", 1))


def test_what_is_no_json_value_is_refused_with_the_remedy(store):
    with pytest.raises(InputError, match="JSON values"):
        store.put([object()])


def test_a_remote_store_serves_another_process_s_cache():
    first = ContentStore("memory://shared")
    ref = first.put("hello")
    assert ContentStore("memory://shared").get(ref) == "hello"


def test_a_private_store_is_removed_at_the_end_of_its_process_and_after_a_kill(tmp_path):
    code = "from rlm_adapters import ContentStore\ns = ContentStore()\ns.put('x')\nprint(s._root, flush=True)\n"
    environment = {"TMPDIR": str(tmp_path), "PATH": ""}
    for end in ("", "import os; os.kill(os.getpid(), 9)"):
        subprocess.run([sys.executable, "-c", code + end], env=environment, check=False, capture_output=True)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []
