"""A run in MLflow, by its autologging, in a database file of the test's own."""

import dspy
import pytest

from rlm_adapters import RLM, ChatRLM, Limits
from tests.dspy.test_over_http import playing
from tests.tracers.runs import ANSWER, CELLS, CHILD_CALLS, CONTEXT, ROOT_CALLS, SUB_CALLS, script

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.tracers


@pytest.fixture(autouse=True)
def own_store(tmp_path):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("test", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    yield
    mlflow.langchain.autolog(disable=True)
    mlflow.dspy.autolog(disable=True)


def only_trace():
    mlflow.flush_trace_async_logging()
    (trace,) = mlflow.search_traces(return_type="list")
    assert str(trace.info.state).endswith("OK")
    assert [span.name for span in trace.data.spans if span.parent_id is None] == [trace.data.spans[0].name]
    return trace


def tokens_of(spans):
    used = [told for span in spans if (told := span.attributes.get("mlflow.chat.tokenUsage"))]
    return sum(one["input_tokens"] for one in used), sum(one["output_tokens"] for one in used)


def test_langchain(model_server, chat):
    script(model_server)
    mlflow.langchain.autolog()
    model = ChatRLM(
        model=chat("root"), sub_model=chat("sub"), limits=Limits(max_depth=2), direct_below=0, context=CONTEXT
    )
    answer = model.invoke("What is it?")
    assert answer.text == ANSWER
    trace = only_trace()
    calls = [span for span in trace.data.spans if span.name.startswith("ChatOpenAI")]
    assert len(calls) == ROOT_CALLS + SUB_CALLS + CHILD_CALLS
    used = answer.usage_metadata
    assert tokens_of(calls) == (used["input_tokens"], used["output_tokens"])
    assert tokens_of(trace.data.spans) == tokens_of(calls), "and nowhere else"
    total = trace.info.token_usage
    assert (total["input_tokens"], total["output_tokens"]) == (used["input_tokens"], used["output_tokens"])
    assert len(trace.to_json()) < 200_000


def test_dspy(model_server):
    model_server.script("root", playing(*CELLS[:1], "SUBMIT(answer=answers[0])"))
    model_server.script("sub", lambda messages, request: "words")
    mlflow.dspy.autolog()
    root, sub = (
        dspy.LM(f"openai/{name}", api_base=model_server.url, api_key="test", cache=False) for name in ("root", "sub")
    )
    with dspy.context(lm=root, track_usage=True):
        prediction = RLM("context, query -> answer", sub_lm=sub)(context=CONTEXT, query="What is it?")
    assert prediction.answer == "words"
    trace = only_trace()
    assert trace.data.spans[0].name == "RLM.forward"
    calls = [span for span in trace.data.spans if span.name.startswith("LM.__call__")]
    assert len(calls) == 2 + SUB_CALLS
    total = trace.info.token_usage
    used = prediction.get_lm_usage().values()
    assert total["input_tokens"] == sum(one["prompt_tokens"] for one in used) > 0
    assert total["output_tokens"] == sum(one["completion_tokens"] for one in used) > 0
