"""What a real Jupyter kernel shows: a trajectory, a run while it goes on, a graph without a network."""

import re
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.notebook
ROOT = Path(__file__).parent.parent.parent

MODELS = """
from langchain_openai import ChatOpenAI
from rlm_adapters import ChatRLM, NotebookView, Trajectory, create_rlm_graph
from tests.server import ModelServer, cell
server = ModelServer().__enter__()
import time
def root(messages, request):
    if slow:
        time.sleep(slow)
    turn = sum(one["role"] == "assistant" for one in messages)
    return [cell("print(len(context))"), cell(f"SUBMIT(llm_query_batched([str(i) for i in range({calls})])[1])")][turn]
server.script("root", root)
server.script("sub", lambda messages, request: "<b>answer</b> " + messages[-1]["content"])
slow, calls = 0, 3
def chat(name):
    return ChatOpenAI(model=name, base_url=server.url, api_key="test", max_retries=0)
GIVEN = {"query": "Who is it?", "context": "abc"}
"""


class Client(nbclient.NotebookClient):
    """Notes every output, and every update of one."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.seen.append((msg["msg_type"], msg["content"]["data"]))
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all tests, with models in it."""
    client = Client(nbformat.v4.new_notebook(), timeout=120, resources={"metadata": {"path": str(ROOT)}})
    client.seen = []
    with client.setup_kernel():
        execute(client, MODELS)
        yield client
        execute(client, "server.__exit__(None, None, None)")


def execute(client, source):
    client.nb.cells.append(nbformat.v4.new_code_cell(source))
    return client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1)


@pytest.fixture
def run(kernel):
    """Execute the cells of a notebook: its cells, and all that was displayed on the way."""

    def _run(*sources):
        kernel.seen = []
        cells = [execute(kernel, one) for one in ("slow, calls = 0, 3", *sources)][1:]
        nbformat.validate(kernel.nb)
        return cells, kernel.seen

    return _run


def outputs_of(cell):
    """Its rich outputs, by media type; what it printed is none."""
    return [one["data"] for one in cell["outputs"] if one["output_type"] != "stream"]


def test_a_trajectory_on_the_last_line_is_an_outline(run):
    cells, _ = run(
        "result = create_rlm_graph(chat('root'), chat('sub'), trajectory=True).invoke(GIVEN)\n"
        "Trajectory.from_dict(result['trajectory'])"
    )
    (shown,) = outputs_of(cells[0])
    assert "<details" in shown["text/html"]
    assert "&lt;b&gt;answer&lt;/b&gt; 1" in shown["text/html"]
    assert "<b>answer" not in shown["text/html"]
    assert shown["text/plain"].startswith("Who is it?\ntime ")
    assert shown["text/plain"].endswith("Answer (submitted): <b>answer</b> 1")


def test_a_run_is_shown_while_it_goes_on_where_its_view_was_displayed(run):
    cells, seen = run(
        "view = NotebookView(seconds=0.1)\nview",
        "slow, calls = 1, 300\ngraph = create_rlm_graph(chat('root'), chat('sub'), on_event=view)\n_ = graph.invoke(GIVEN)",
    )
    (shown,) = outputs_of(cells[0])
    assert outputs_of(cells[1]) == []
    assert "Answer (submitted)" in shown["text/html"]
    assert "300 calls" in shown["text/html"]
    kinds, data = zip(*seen, strict=True)
    assert kinds == ("display_data", *["update_display_data"] * (len(seen) - 1))
    assert "no run has begun" in data[0]["text/plain"]
    assert any("Not finished" in one["text/plain"] and "iteration 1" in one["text/plain"] for one in data)
    # 300 calls told about 620 events.
    assert 4 <= len(seen) <= 60


@pytest.mark.parametrize(
    "ask",
    [
        "_ = graph.invoke(GIVEN)",
        "_ = await graph.ainvoke(GIVEN)",
        "_ = ChatRLM(chat('root'), chat('sub'), on_event=view, direct_below=0).invoke(['abc ' * 9, 'Who?'])",
    ],
)
def test_a_view_that_was_not_displayed_shows_itself_where_the_run_is(run, ask):
    cells, _ = run(
        f"view = NotebookView()\ngraph = create_rlm_graph(chat('root'), chat('sub'), on_event=view)\n{ask}",
        "print('later', view.trajectory.status)",
    )
    (shown,) = outputs_of(cells[0])
    assert re.search(r"Answer \(submitted\): .*answer</b> 1", shown["text/plain"])
    assert cells[1]["outputs"][0]["text"] == "later ok\n"


def test_runs_at_the_same_time_are_shown_together_and_a_later_one_alone(run):
    cells, _ = run(
        "view = NotebookView()\ngraph = create_rlm_graph(chat('root'), chat('sub'), on_event=view)\n"
        "slow = 0.5\n_ = graph.batch([{**GIVEN, 'query': f'Who is {name}?'} for name in ('Ann', 'Bob')])\n"
        "both = view._bundle()['text/plain']\n_ = graph.invoke({**GIVEN, 'query': 'Who is Cid?'})",
        "print('Ann' in both, 'Bob' in both)",
    )
    (shown,) = outputs_of(cells[0])
    assert "Cid" in shown["text/html"]
    assert "Ann" not in shown["text/html"]
    assert cells[1]["outputs"][0]["text"] == "True True\n"


def test_a_graph_on_the_last_line_is_drawn_without_a_network(run):
    cells, _ = run(
        "import socket\n"
        "def refuse(*_, **__):\n    raise OSError('no network')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "create_rlm_graph(chat('root'), chat('sub'))"
    )
    (shown,) = outputs_of(cells[0])
    assert set(shown) == {"text/html", "text/plain"}
    for node in ("prepare", "generate_code", "execute", "recurse", "check_final", "extract"):
        assert f">{node}</text>" in shown["text/html"]
        assert node in shown["text/plain"]
    assert "graph TD" in shown["text/html"]
