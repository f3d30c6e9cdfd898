"""LangChain's standard suites for chat models, over HTTP against the test server. No test is overridden."""

import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from rlm_adapters import ChatRLM
from tests.chat.player import play


class OnTheServer:
    """A ChatRLM whose root LM is played by the test server."""

    @pytest.fixture(autouse=True)
    def _served(self, model_server, sandbox):
        model_server.script("root", play)
        model_server.script("other-root", play)
        self._server, self._sandbox = model_server, sandbox

    @property
    def chat_model_class(self):
        return ChatRLM

    @property
    def chat_model_params(self):
        model = ChatOpenAI(model="root", base_url=self._server.url, api_key="test", max_retries=0)
        return {"model": model, "sandbox": self._sandbox}

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return True

    @property
    def model_override_value(self):
        return "other-root"


class TestUnit(OnTheServer, ChatModelUnitTests):
    pass


class TestIntegration(OnTheServer, ChatModelIntegrationTests):
    """With the inner runs traced, as by default.

    The suite's tests of structured output count the starts of chat models that a callback sees, and allow one; here it
    sees the root LM's runs too. They run in the class below.
    """

    @property
    def has_structured_output(self):
        return False


class TestIntegrationWithoutInnerTraces(OnTheServer, ChatModelIntegrationTests):
    @property
    def chat_model_params(self):
        return {**super().chat_model_params, "trace_inner": False}
