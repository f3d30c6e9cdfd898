"""Run a thread of a graph in a process of its own: ``python -m tests.graph.leasing KIND LOCATION STORE URL [resume]``."""

import sys
from typing import Any

from rlm_adapters import ContentStore, create_rlm_graph
from tests.langchain.savers import Opened, opened

THREAD: dict[str, Any] = {"configurable": {"thread_id": "t"}}


def graph_of(used: Opened, url: str, store: Any, **options: Any) -> Any:
    """The graph whose runs the processes share."""
    from langchain_openai import ChatOpenAI

    root, sub = (ChatOpenAI(model=name, base_url=url, api_key="test", max_retries=0) for name in ("root", "sub"))
    return create_rlm_graph(root, sub, checkpointer=used.saver, store=ContentStore(store), **options)


def call(used: Opened, graph: Any, given: Any) -> Any:
    """Run the thread in the form that the saver serves."""
    if used.runner is None:
        return graph.invoke(given, THREAD)
    return used.runner.run(graph.ainvoke(given, THREAD))


def main(kind: str, location: str, store: str, url: str, begin: str = "begin") -> None:
    with opened(kind, location) as used:
        call(used, graph_of(used, url, store), {"query": "q"} if begin == "begin" else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
