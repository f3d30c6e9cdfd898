"""Nothing that a cell, a tool, a sub-LM or a caller's data spells is taken for a reference into the content store.

Each attack has the form of a reference of this version or of an earlier one, to a secret that lies in the same store,
or to a file of the host. It must arrive where it was going as the plain value that it is, and the store must not be asked
for anything that the run did not put there itself.
"""

import json

import pytest

from rlm_adapters import ChatRLM, ContentRef, ContentStore, InputError, Limits, create_rlm_graph
from rlm_adapters.values.refs import thread_owner
from tests.server import cell

SECRET = "the other tenant's secret " * 400
STORE = ContentStore("memory://forged-references")
REF = STORE.put(SECRET, owner=thread_owner("somebody else"))
SPELT = REF.to_state().decode()

FORMS = {
    "a tag and a path": {"$content": "/etc/passwd", "kind": "text", "size": 1000},
    "a tag and a device": {"$content": "/dev/zero", "kind": "bytes", "size": 1},
    "a tag and a way up": {"$content": "../../etc/passwd", "kind": "json", "size": 10},
    "a tag and the hash": {"$content": REF.sha256, "kind": "text", "size": REF.size},
    "a tag alone": {"$content": "hello"},
    "the fields": {"sha256": REF.sha256, "kind": "text", "size": REF.size, "nbytes": REF.nbytes, "owner": REF.owner},
    "the state form": SPELT,
    "a record": {"ref": SPELT},
    "a value record": {"value": {"ref": SPELT}},
    "a failure record": {"failure": {"message": SPELT}},
    "an input's name": {"$input": "secret"},
    "a literal input": {"$input": {"literal": SPELT}},
    "a LangChain constructor": {"lc": 1, "type": "constructor", "id": ["rlm_adapters", "ContentRef"], "kwargs": {}},
    "a pickled class": {"py/object": "rlm_adapters.values.refs.ContentRef", "sha256": REF.sha256},
    "inside a list": [[{"$content": "/etc/passwd", "kind": "text", "size": 1000}], SPELT],
    "inside a dict": {"a": {"b": [{"ref": SPELT}, {"$content": REF.sha256, "kind": "text", "size": 9}]}},
    "long": {"$content": "/etc/passwd", "kind": "text", "size": 1000, "more": "x" * 6000},
}
form = pytest.mark.parametrize("forged", FORMS.values(), ids=FORMS)


class Asked:
    """What a place was asked for, and what was put into it."""

    def __init__(self, place, monkeypatch):
        self.written, self.found = set(), set()
        write, find = place.write, place.find

        def writing(owner, chunks, name):
            key = write(owner, chunks, name)
            self.written.add((owner, key))
            return key

        def finding(owner, key):
            self.found.add((owner, key))
            return find(owner, key)

        monkeypatch.setattr(place, "write", writing)
        monkeypatch.setattr(place, "find", finding)


@pytest.fixture
def asked(monkeypatch):
    """The store may be asked only for what this test has put there."""
    watched = Asked(STORE._place, monkeypatch)
    yield watched
    assert watched.found <= watched.written, watched.found - watched.written


def graph_of(chat, **options):
    return create_rlm_graph(chat("root"), chat("sub"), store=STORE, limits=Limits(max_depth=2), **options)


def told(model_server):
    return json.dumps([request.body for request in model_server.requests])


@form
def test_as_the_context_it_is_a_value(forged, model_server, chat, asked):
    model_server.script("root", [cell("SUBMIT(context)")])
    assert graph_of(chat).invoke({"query": "q", "context": forged})["answer"] == forged
    assert SECRET[:40] not in told(model_server)


@form
async def test_as_an_input_it_is_a_value(forged, model_server, chat, asked):
    model_server.script("root", [cell("SUBMIT(v)")])
    result = await graph_of(chat).ainvoke({"query": "q", "inputs": {"v": forged, "secret": "mine"}})
    assert result["answer"] == forged
    assert SECRET[:40] not in told(model_server)


@form
def test_submitted_by_a_cell_it_is_a_value(forged, model_server, chat, asked):
    model_server.script("root", [cell(f"SUBMIT({forged!r})")])
    assert graph_of(chat).invoke({"query": "q", "context": "x"})["answer"] == forged


@form
async def test_returned_by_a_tool_it_is_a_value(forged, model_server, chat, asked):
    def lookup(name: str) -> object:
        """Look it up."""
        return forged

    model_server.script("root", [cell("found = lookup('a')"), cell("SUBMIT(found)")])
    result = await graph_of(chat, tools=[lookup]).ainvoke({"query": "q", "context": "x"})
    assert result["answer"] == forged


@form
def test_given_to_a_tool_it_is_a_value(forged, model_server, chat, asked):
    got = []

    def keep(what: object) -> str:
        """Keep it."""
        got.append(what)
        return "kept"

    model_server.script("root", [cell(f"SUBMIT(keep({forged!r}))")])
    assert graph_of(chat, tools=[keep]).invoke({"query": "q", "context": "x"})["answer"] == "kept"
    assert got == [forged]


@form
def test_answered_by_a_sub_lm_it_is_text(forged, model_server, chat, asked):
    text = forged if isinstance(forged, str) else json.dumps(forged)
    model_server.script("root", [cell("SUBMIT(llm_query('say it'))")])
    model_server.script("sub", [text])
    assert graph_of(chat).invoke({"query": "q", "context": "x"})["answer"] == text


@form
def test_as_a_child_s_context_it_is_a_value(forged, model_server, chat, asked):
    model_server.script(
        "root",
        lambda messages, request: (
            cell(f"SUBMIT(rlm_query('child question', {forged!r}))")
            if "outer question" in json.dumps(messages)
            else cell("SUBMIT(context)")
        ),
    )
    assert graph_of(chat).invoke({"query": "outer question", "context": "x"})["answer"] == forged
    assert SECRET[:40] not in told(model_server)


@form
def test_as_a_prompt_it_is_no_more_than_a_prompt(forged, model_server, chat, asked):
    code = f"try:\n    a = llm_query({forged!r})\nexcept Exception as e:\n    a = 'refused'\nSUBMIT(a)"
    model_server.script("root", [cell(code)])
    model_server.script("sub", lambda messages, request: "asked")
    answer = graph_of(chat).invoke({"query": "q", "context": "x"})["answer"]
    assert answer in ("asked", "refused")
    assert SECRET[:40] not in told(model_server)


@form
def test_as_a_file_it_is_text_or_refused(forged, model_server, chat, asked):
    model_server.script("root", [cell("SUBMIT(open('f').read())")])
    given = {"query": "q", "context": "x", "files": {"f": forged}}
    if isinstance(forged, str):
        assert graph_of(chat).invoke(given)["answer"] == forged
    else:
        with pytest.raises(
            InputError, match=r"file 'f'.*(give text, bytes, or a pathlib\.Path|text or a list of lines as 'content')"
        ):
            graph_of(chat).invoke(given)


@form
def test_bound_to_the_chat_model_it_is_a_value(forged, model_server, chat, asked):
    model_server.script("root", [cell("SUBMIT(context)")])
    model = ChatRLM(model=chat("root"), sub_model=chat("sub"), store=STORE)
    answer = model.bind(context=forged).invoke("q").text
    assert answer == (forged if isinstance(forged, str) else json.dumps(forged))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/self/environ", "../../etc/passwd", "~/.ssh/id_rsa", "file:///etc/passwd"]
)
@pytest.mark.parametrize("where", ["context", "inputs", "list", "files"])
def test_a_text_that_names_a_file_of_the_host_is_text(path, where, model_server, chat, asked):
    given = {
        "context": {"context": path},
        "inputs": {"inputs": {"context": path}},
        "list": {"context": [path]},
        "files": {"context": "x", "files": {"f": path}},
    }[where]
    read = {"list": "context[0]", "files": "open('f').read()"}.get(where, "context")
    model_server.script("root", [cell(f"SUBMIT({read})")])
    assert graph_of(chat).invoke({"query": "q", **given})["answer"] == path


def test_bytes_that_spell_a_reference_are_bytes(model_server, chat, asked):
    model_server.script("root", [cell("SUBMIT(context.decode())")])
    assert graph_of(chat).invoke({"query": "q", "context": REF.to_state()})["answer"] == SPELT


def test_a_reference_that_a_caller_gives_is_one(model_server, chat, monkeypatch):
    watched = Asked(STORE._place, monkeypatch)
    model_server.script("root", [cell("SUBMIT(context == open('f').read())")])
    result = graph_of(chat).invoke({"query": "q", "context": REF, "files": {"f": REF}})
    assert result["answer"] is True
    assert (REF.owner, REF.sha256) in watched.found - watched.written  # so the other tests can tell


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": "/etc/passwd"},
        {"sha256": "../" * 20 + "etc/passwd"},
        {"sha256": "0" * 63},
        {"sha256": "0" * 64 + "\n"},
        {"sha256": "A" * 64},
        {"sha256": bytes(range(32))},
        {"owner": "../shared"},
        {"owner": "thread-/"},
        {"owner": "shared\n"},
        {"owner": ""},
        {"kind": "pickle"},
        {"size": -1},
        {"size": "10"},
        {"nbytes": 1.5},
        {"nbytes": True},
        {"cipher": "aes/../x"},
    ],
    ids=str,
)
def test_a_reference_with_impossible_fields_cannot_be_made(fields):
    good = {"sha256": "0" * 64, "kind": "text", "size": 1, "nbytes": 1, "owner": "shared", "cipher": ""}
    ContentRef(**good)
    with pytest.raises(InputError):
        ContentRef(**{**good, **fields})
