import pytest

from rlm_adapters.errors import InputError, MissingExtraError
from rlm_adapters.models.providers import chat_model, open_chat_model, split_name


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "compatible", "expected"),
    [
        ("openai:gpt-5", False, ("openai", "gpt-5")),
        ("OpenAI:gpt-5", False, ("openai", "gpt-5")),
        ("google-genai:gemini", False, ("google_genai", "gemini")),
        ("ollama:qwen3:8b", False, ("ollama", "qwen3:8b")),
        ("qwen3:8b", False, (None, "qwen3:8b")),
        ("qwen3:8b", True, ("openai", "qwen3:8b")),
        ("mistral-7b", True, ("openai", "mistral-7b")),
        ("anthropic:claude", True, ("anthropic", "claude")),
        ("gpt-5", False, ("openai", "gpt-5")),
    ],
)
def test_a_name_is_split_into_provider_and_model(name, compatible, expected):
    assert split_name(name, openai_compatible=compatible) == expected


@pytest.mark.parametrize(("name", "message"), [("openai:", "no name after the provider"), (" ", "name is empty")])
def test_a_name_without_a_model_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        split_name(name)


async def test_a_model_of_a_local_server_needs_no_key_and_is_closed_at_the_end(model_server):
    model_server.script("qwen3:8b", ["hello"])
    async with open_chat_model("qwen3:8b", base_url=model_server.url) as model:
        assert (await model.ainvoke("q")).text == "hello"
        client = model.http_async_client
        assert not client.is_closed
    assert client.is_closed
    assert model_server.requests[0].headers["Authorization"] == "Bearer none"


async def test_the_base_url_of_the_environment_counts(model_server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    model_server.script("local", ["hello"])
    async with open_chat_model("openai:local") as model:
        assert (await model.ainvoke("q")).text == "hello"


async def test_a_key_is_passed_on(model_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    model_server.script("root", lambda messages, request: "hello")
    for key, sent in [("given", "given"), (None, "from-environment")]:
        async with open_chat_model("openai:root", base_url=model_server.url, api_key=key) as model:
            await model.ainvoke("q")
        assert model_server.requests[-1].headers["Authorization"] == f"Bearer {sent}"


async def test_openai_models_use_the_aiohttp_transport(model_server, caplog):
    model_server.script("root", ["hello"])
    async with open_chat_model("openai:root", base_url=model_server.url) as model:
        kinds = [f"{kind.__module__}.{kind.__qualname__}".lower() for kind in type(model.http_async_client).__mro__]
        assert any("aiohttp" in kind for kind in kinds), kinds
        assert (await model.ainvoke("q")).text == "hello"
    assert not _ours(caplog)


def _ours(caplog):
    """What this package has logged: clients of earlier tests may complain at any time that their event loop is gone."""
    return [record for record in caplog.records if record.name.startswith("rlm_adapters")]


async def test_without_the_aiohttp_transport_a_model_works_and_the_remedy_is_said(model_server, monkeypatch, caplog):
    import openai

    def refuses(**_):
        raise RuntimeError("To use the aiohttp client you must have installed the package with the `aiohttp` extra")

    monkeypatch.setattr(openai, "DefaultAioHttpClient", refuses)
    model_server.script("root", ["hello"])
    async with open_chat_model("openai:root", base_url=model_server.url) as model:
        assert (await model.ainvoke("q")).text == "hello"
    (record,) = _ours(caplog)
    assert "pip install 'openai[aiohttp]'" in record.getMessage()
    assert "must have installed" in record.getMessage()


class TestProxy:
    """A proxy that the machine's settings name is used: by LangChain's own clients, which know every kind of proxy."""

    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OPENAI_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("OPENAI_API_KEY", "x")

    @pytest.mark.parametrize(
        ("variables", "address", "through"),
        [
            ({}, None, False),
            ({"HTTPS_PROXY": "http://proxy:1"}, None, True),
            ({"https_proxy": "http://proxy:1"}, "https://example.org/v1", True),
            ({"ALL_PROXY": "http://proxy:1"}, None, True),
            ({"HTTP_PROXY": "http://proxy:1"}, None, False),
            ({"HTTP_PROXY": "http://proxy:1"}, "http://example.org:8000/v1", True),
            ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "example.org"}, "http://example.org:8000/v1", False),
            ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "other.org"}, "http://example.org:8000/v1", True),
            ({"NO_PROXY": "127.0.0.1"}, None, False),
            ({"OPENAI_PROXY": "http://proxy:1"}, None, True),
        ],
    )
    def test_our_transport_is_for_direct_connections(self, variables, address, through, monkeypatch, caplog):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        model = chat_model("openai:root", base_url=address)
        ours = type(model.http_async_client).__name__ == "EachLoopClient"
        assert ours is not through
        assert not [record for record in caplog.records if record.levelname == "WARNING"]

    async def test_calls_go_through_the_proxy(self, model_server, monkeypatch):
        model_server.script("root", lambda messages, request: "through it")
        monkeypatch.setenv("HTTP_PROXY", model_server.url.removesuffix("/v1"))
        model = chat_model("openai:root", base_url="http://nowhere.invalid/v1")
        assert (await model.ainvoke("q")).text == "through it"
        assert model.invoke("q").text == "through it"

    async def test_sync_calls_find_their_proxy_although_async_ones_need_none(self, model_server, monkeypatch):
        model_server.script("root", lambda messages, request: "ok")
        monkeypatch.setenv("HTTPS_PROXY", "http://nowhere.invalid:1")
        model = chat_model("openai:root", base_url=model_server.url)
        assert [(await model.ainvoke("q")).text, model.invoke("q").text] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("openai:gpt-5", InputError, "no API key: set OPENAI_API_KEY"),
        ("nobody-knows", InputError, "its provider is unknown: give provider:name"),
        ("nope:model", InputError, "its provider is unknown"),
    ],
)
async def test_an_unusable_model_is_refused_with_the_remedy(name, error, message):
    with pytest.raises(error, match=message):
        async with open_chat_model(name):
            pass


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("openai:gpt-5", "langchain_openai", r"pip install 'rlm-adapters\[openai\]'"),
        ("anthropic:claude", "langchain_anthropic", "pip install langchain-anthropic"),
    ],
)
async def test_a_missing_package_is_named(name, module, message, monkeypatch):
    import sys

    from langchain.chat_models import base

    base._get_chat_model_creator.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with pytest.raises(MissingExtraError, match=message):
        async with open_chat_model(name):
            pass
