"""LangChain's standard suites for chat models, over HTTP against the test server. No test is overridden.

The suite's tests of images, recordings and PDFs load their files from the web; here they get others of these kinds.
"""

from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from rlm_adapters import ChatRLM
from tests.langchain.player import play, play_plainly

PDF = Path(__file__).parents[1] / "data" / "Origin-of-Species.pdf"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005"
    "0001ff56c72f0d0000000049454e44ae426082"
)
WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0"


class OnTheServer:
    """A ChatRLM whose root LM is played by the test server; it answers short questions by runs, too."""

    player = staticmethod(play)

    @pytest.fixture(autouse=True)
    def _served(self, model_server, sandbox):
        model_server.script("root", self.player)
        model_server.script("other-root", self.player)
        self._server, self._sandbox = model_server, sandbox

    @pytest.fixture(autouse=True)
    def _web(self, monkeypatch):
        files = {".pdf": PDF.read_bytes(), ".png": PNG, ".wav": WAV}

        def get(url, **_):
            return SimpleNamespace(content=files[Path(url).suffix])

        monkeypatch.setattr(httpx, "get", get)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none")

    @property
    def chat_model_class(self):
        return ChatRLM

    @property
    def chat_model_params(self):
        model = ChatOpenAI(model="root", base_url=self._server.url, api_key="test", max_retries=0)
        return {"model": model, "sandbox": self._sandbox, "direct_below": 0}

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return True

    @property
    def supports_image_inputs(self):
        return True

    @property
    def supports_image_urls(self):
        return True

    @property
    def supports_image_tool_message(self):
        return True

    @property
    def supports_audio_inputs(self):
        return True

    @property
    def supports_pdf_inputs(self):
        return True

    @property
    def supports_pdf_tool_message(self):
        return True

    @property
    def model_override_value(self):
        return "other-root"


class TestUnit(OnTheServer, ChatModelUnitTests):
    @property
    def init_from_env_params(self):
        return {"OPENAI_API_KEY": "from the environment"}, {"model": "openai:root"}, {"model_name": "rlm:root"}


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


class TestIntegrationOfShortQuestions(OnTheServer, ChatModelIntegrationTests):
    """As it is used first: short questions go straight to the model, tools and schemas with them."""

    player = staticmethod(play_plainly)

    @property
    def chat_model_params(self):
        params = super().chat_model_params
        del params["direct_below"]
        return {**params, "trace_inner": False}
