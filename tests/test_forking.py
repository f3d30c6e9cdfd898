"""A process that has used this package and then forks: the child starts anew, and the parent notices nothing."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import ChatRLM, ContentStore, create_rlm_graph
from tests.server import cell

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
WAIT = 60


def in_child(work):
    """The result of some work in a forked child, or what it raised."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def child():
        try:
            results.put(work())
        except BaseException as error:
            results.put(repr(error))

    process = context.Process(target=child)
    process.start()
    process.join(WAIT)
    if process.is_alive():
        process.kill()
        return f"the child hung for {WAIT} s"
    return results.get()


@pytest.fixture
def scripted(model_server):
    model_server.script("root", lambda messages, request: cell("SUBMIT(llm_query('say it') + str(len(context)))"))
    model_server.script("sub", lambda messages, request: "ok ")


def fork_and_go_on(url, sandbox):
    """Use a graph in a forked child, then in the parent, then in two more children and once more in the parent."""
    root, sub = (ChatOpenAI(model=name, base_url=url, api_key="test", max_retries=0) for name in ("root", "sub"))
    graph = create_rlm_graph(root, sub, sandbox=sandbox)

    def work():
        return graph.invoke({"query": "q", "context": "x" * 9000})["answer"]

    answers = [in_child(work), work(), in_child(work), in_child(work), work()]
    graph.close()
    return answers


@pytest.mark.parametrize("sandbox", [None, "monty"], ids=["process", "monty"])
def test_a_graph_works_in_the_child_and_goes_on_in_the_parent(sandbox, scripted, model_server):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # other tests have used Monty here
        answers = fresh.submit(fork_and_go_on, model_server.url, sandbox).result(4 * WAIT)
    if sandbox == "monty":  # the library's threads are gone, and it has no way to start new ones
        assert all("cannot be used in the child" in answers.pop(2) for _ in range(2))
    assert set(answers) == {"ok 9000"}


def test_a_chat_model_works_in_the_child_and_goes_on_in_the_parent(scripted, chat):
    model = ChatRLM(model=chat("root"), sub_model=chat("sub"), direct_below=0).bind(context="x" * 9000)
    assert model.invoke("q").text == "ok 9000"
    assert in_child(lambda: model.invoke("q").text) == "ok 9000"
    assert model.invoke("q").text == "ok 9000"


def test_a_session_that_waits_in_the_parent_survives_the_child(sandbox):
    from rlm_adapters.sandbox import HostFunction, Value

    with sandbox.open(functions=[HostFunction(name="ask")]) as session:
        waiting = session.start("answer = ask('x')\nprint(answer)")
        assert in_child(lambda: sandbox.open().start("print(1 + 1)").stdout) == "2\n"
        done = session.resume({call.id: Value("hello") for call in waiting.calls})
        assert done.stdout == "hello\n"


def test_the_child_finds_what_the_parent_stored_and_removes_nothing():
    store = ContentStore()
    ref = store.put("from the parent " * 1000)

    def work():
        own = store.put("from the child " * 1000)
        store._recent.forget("")
        return store.get(ref)[:15], store.get(own)[:14]

    assert in_child(work) == ("from the parent", "from the child")
    store._recent.forget("")
    assert store.get(ref).startswith("from the parent")
