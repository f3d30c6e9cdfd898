"""A run as spans of OpenTelemetry, by OpenInference's instrumentation, sent to a collector over HTTP."""

import dspy
import pytest

from rlm_adapters import RLM, ChatRLM, Limits
from tests.dspy.test_over_http import playing
from tests.tracers.collector import collecting
from tests.tracers.runs import ANSWER, CELLS, CHILD_CALLS, CONTEXT, ROOT_CALLS, SUB_CALLS, script

pytest.importorskip("openinference.instrumentation.langchain")
pytestmark = pytest.mark.tracers


@pytest.fixture
def spans():
    """Instrument a framework for the length of a test; gives its finished spans as the collector got them."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    with collecting() as collector:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.url}/v1/traces")))
        started = []

        def instrument(instrumentor):
            instrumentor.instrument(tracer_provider=provider)
            started.append(instrumentor)

        def collected():
            provider.force_flush()
            found = []
            for path, body in collector.posted:
                assert path == "/v1/traces"
                request = ExportTraceServiceRequest.FromString(body)
                found += [span for each in request.resource_spans for one in each.scope_spans for span in one.spans]
            return found

        yield instrument, collected
        for instrumentor in started:
            instrumentor.uninstrument()
        provider.shutdown()


def attributes(span):
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def assert_one_tree(found):
    ids = {span.span_id for span in found}
    (top,) = [span for span in found if span.parent_span_id not in ids]
    assert len({span.trace_id for span in found}) == 1
    return top


def test_langchain(spans, model_server, chat):
    from openinference.instrumentation.langchain import LangChainInstrumentor

    instrument, collected = spans
    script(model_server)
    instrument(LangChainInstrumentor())
    model = ChatRLM(
        model=chat("root"), sub_model=chat("sub"), limits=Limits(max_depth=2), direct_below=0, context=CONTEXT
    )
    answer = model.invoke("What is it?")
    assert answer.text == ANSWER
    found = collected()
    assert assert_one_tree(found).name == "ChatRLM"
    models = [attributes(span).get("llm.model_name") for span in found if span.name == "ChatOpenAI"]
    assert sorted(models) == ["root"] * (ROOT_CALLS + CHILD_CALLS) + ["sub"] * SUB_CALLS
    assert all(attributes(span)["llm.token_count.prompt"] > 0 for span in found if span.name == "ChatOpenAI")
    counted = [attributes(span).get("llm.token_count.prompt", 0) for span in found]
    assert sum(counted) == answer.usage_metadata["input_tokens"], "all spans together count each token once"
    assert sum(span.ByteSize() for span in found) < 200_000


def test_dspy(spans, model_server):
    from openinference.instrumentation.dspy import DSPyInstrumentor

    instrument, collected = spans
    model_server.script("root", playing(*CELLS[:1], "SUBMIT(answer=answers[0])"))
    model_server.script("sub", lambda messages, request: "words")
    instrument(DSPyInstrumentor())
    root, sub = (
        dspy.LM(f"openai/{name}", api_base=model_server.url, api_key="test", cache=False) for name in ("root", "sub")
    )
    with dspy.context(lm=root):
        assert RLM("context, query -> answer", sub_lm=sub)(context=CONTEXT, query="What is it?").answer == "words"
    found = collected()
    assert assert_one_tree(found).name == "RLM.forward"
    models = [attributes(span).get("llm.model_name") for span in found if span.name == "LM.__call__"]
    assert sorted(models) == ["root"] * 2 + ["sub"] * SUB_CALLS
