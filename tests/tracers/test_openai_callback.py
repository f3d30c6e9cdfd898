"""``get_openai_callback`` of langchain-community, which adds up what it sees."""

import asyncio

import pytest

from rlm_adapters import ChatRLM, Limits
from tests.tracers.runs import ANSWER, CHILD_CALLS, CONTEXT, ROOT_CALLS, SUB_CALLS, script

community = pytest.importorskip("langchain_community.callbacks", reason="make test-tracers installs it")


@pytest.mark.parametrize("form", ["invoke", "ainvoke", "stream"])
def test_it_counts_each_token_once(model_server, chat, form):
    script(model_server)
    model = ChatRLM(
        model=chat("root"), sub_model=chat("sub"), limits=Limits(max_depth=2), direct_below=0, context=CONTEXT
    )
    with community.get_openai_callback() as counted:
        if form == "stream":
            whole = None
            for chunk in model.stream("What is it?"):
                whole = chunk if whole is None else whole + chunk
        else:
            whole = model.invoke("What is it?") if form == "invoke" else asyncio.run(model.ainvoke("What is it?"))
    assert whole.text == ANSWER
    used = whole.usage_metadata
    assert (counted.prompt_tokens, counted.completion_tokens) == (used["input_tokens"], used["output_tokens"])
    assert counted.successful_requests == ROOT_CALLS + SUB_CALLS + CHILD_CALLS
