"""A run in LangSmith: one tree, every token once, and no content of the input."""

import json

import pytest
from langchain_core.tracers import LangChainTracer
from langsmith import Client

from rlm_adapters import ChatRLM, Limits
from tests.tracers.collector import collecting
from tests.tracers.runs import ANSWER, CHILD_CALLS, CONTEXT, ROOT_CALLS, SUB_CALLS, script


@pytest.fixture
def traced(model_server, chat):
    """Run a ChatRLM with a tracer; gives the answer, the runs by id, and the bytes that were sent."""
    script(model_server)

    def _traced(context):
        with collecting() as collector:
            client = Client(api_url=collector.url, api_key="test", info=None)
            model = ChatRLM(
                model=chat("root"), sub_model=chat("sub"), limits=Limits(max_depth=2), direct_below=0, context=context
            )
            config = {"callbacks": [LangChainTracer(client=client)], "tags": ["mine"], "run_name": "question"}
            answer = model.invoke("What is it?", config)
            client.flush()
            client.cleanup()
        runs = {}
        for _, body in collector.posted:
            batch = json.loads(body)
            for run in [*batch.get("post", []), *batch.get("patch", [])]:
                runs.setdefault(run["id"], {}).update({key: value for key, value in run.items() if value is not None})
        return answer, runs, collector.size

    return _traced


def test_a_run_is_one_tree_with_its_names(traced):
    answer, runs, _ = traced(CONTEXT)
    assert answer.text == ANSWER
    (top,) = [run for run in runs.values() if not run.get("parent_run_id")]
    assert (top["name"], top["run_type"]) == ("question", "llm")
    assert "mine" in top["tags"]
    assert {run["trace_id"] for run in runs.values()} == {top["id"]}
    assert all(run.get("end_time") for run in runs.values())
    names = [run["name"] for run in runs.values()]
    assert names.count("ChatOpenAI") == ROOT_CALLS + SUB_CALLS + CHILD_CALLS
    assert {"generate_code", "execute", "recurse", "check_final"} <= set(names)


def test_all_runs_together_count_each_token_once(traced):
    answer, runs, _ = traced(CONTEXT)
    told = [(run.get("extra") or {}).get("metadata", {}).get("usage_metadata") for run in runs.values()]
    counted = [one for one in told if one]
    assert len(counted) == ROOT_CALLS + SUB_CALLS + CHILD_CALLS
    for key in ("input_tokens", "output_tokens", "total_tokens"):
        assert sum(one[key] for one in counted) == answer.usage_metadata[key] > 0


def test_ten_megabytes_of_context_are_not_sent(traced):
    small, large = traced(CONTEXT)[2], traced("word " * 2_000_000)[2]
    assert large < 200_000
    assert large < small + 50_000, "it depends on the moments at which batches leave, not on the context"
