"""The content store cannot be reached in the middle of a run, and comes back: a clear error, and the run goes on."""

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from langgraph.checkpoint.sqlite import SqliteSaver

from rlm_adapters import ContentStore, create_rlm_graph
from rlm_adapters.errors import ContentError
from rlm_adapters.values.refs import thread_owner
from tests.graph.leasing import THREAD
from tests.server import cell

BIG = "long " * 2_000
OWNER = thread_owner("t")
CELLS = [cell("a = llm_query('first')\nprint(a)"), cell("SUBMIT(a + llm_query('second'))")]


class FarAway(LocalFileSystem):
    """A file system that others share, over a network that fails at times."""

    protocol = "faraway"
    down = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("faraway://")))


def _over_the_network(name: str) -> Any:
    plain = getattr(LocalFileSystem, name)

    def call(self: FarAway, *args: Any, **kwargs: Any) -> Any:
        if FarAway.down:
            raise ConnectionError("no route to host")
        return plain(self, *args, **kwargs)

    return call


for _name in ("put_file", "open", "info", "makedirs", "rm", "ls", "find"):
    setattr(FarAway, _name, _over_the_network(_name))
fsspec.register_implementation("faraway", FarAway, clobber=True)


class Directory:
    """A directory that is mounted from elsewhere, and is not for a while."""

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._path, self._aside = path, path.with_name("aside")

    def fail(self) -> None:
        self._path.rename(self._aside)
        self._path.touch()

    def come_back(self) -> None:
        self._path.unlink()
        self._aside.rename(self._path)


class Remote:
    """A URL of fsspec's."""

    def __init__(self, path: Path) -> None:
        self.location = f"faraway://{path}"

    def fail(self) -> None:
        FarAway.down = True

    def come_back(self) -> None:
        FarAway.down = False


@pytest.fixture(params=[Directory, Remote])
def place(request, tmp_path):
    made = request.param(tmp_path / "store")
    (tmp_path / "store").mkdir()
    yield made
    FarAway.down = False


@pytest.mark.parametrize("by", ["the same process", "another one"])
def test_a_run_whose_store_was_away_goes_on_when_it_is_back(model_server, chat, sandbox, tmp_path, place, by):
    def sub(messages: list[dict[str, Any]], _: Any) -> str:
        asked = messages[-1]["content"]
        if asked == "second" and len(model_server.requests_of("sub")) == 2:
            place.fail()
        return f"<{asked}>{BIG}"

    model_server.script("root", CELLS)
    model_server.script("sub", sub)
    with SqliteSaver.from_conn_string(str(tmp_path / "d.db")) as saver:

        def graph() -> Any:
            store = ContentStore(place.location)
            return create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=saver, store=store)

        first = graph()
        with pytest.raises(ContentError, match=r"run \w+: content .* check that the content store can be reached"):
            first.invoke({"query": "q"}, THREAD)
        with pytest.raises(ContentError, match="check that the content store can be reached"):
            graph().invoke(None, THREAD)  # of a process that has nothing in memory
        place.come_back()
        answer = (first if by == "the same process" else graph()).invoke(None, THREAD)["answer"]
    assert answer == f"<first>{BIG}<second>{BIG}"
    asked = [one.messages[-1]["content"] for one in model_server.requests_of("sub")]
    assert asked.count("first") == 1
    assert asked.count("second") <= 3  # whose answer could not be stored


def test_a_store_that_is_away_at_the_first_write_is_used_when_it_is_back(tmp_path, place):
    store = ContentStore(place.location)
    place.fail()
    with pytest.raises(ContentError, match="check that the content store can be reached"):
        store.put(BIG, owner=OWNER)
    place.come_back()
    ref = store.put(BIG, owner=OWNER)
    assert ContentStore(place.location).get(ref) == BIG


def test_what_a_store_that_is_away_holds_is_not_said_to_be_gone(place):
    store, other = ContentStore(place.location), ContentStore(place.location)
    ref = store.put(BIG, owner=OWNER)
    place.fail()
    for use in (lambda: other.get(ref), lambda: other.forget(OWNER)):
        with pytest.raises(ContentError, match="check that the content store can be reached"):
            use()
    place.come_back()
    assert other.get(ref) == BIG
