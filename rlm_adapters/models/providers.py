"""Make chat models from names such as ``openai:gpt-5-mini``."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rlm_adapters.errors import InputError, MissingExtraError
from rlm_adapters.models.transport import aiohttp_client, shared_client

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_log = logging.getLogger(__name__)

_OPENAI: Final = "https://api.openai.com/v1"
_NO_KEY: Final = "none"
"""Local servers (vLLM, llama.cpp, Ollama) need no key, but OpenAI's client needs one."""


@asynccontextmanager
async def open_chat_model(
    name: str, *, base_url: str | None = None, api_key: str | None = None
) -> AsyncIterator[BaseChatModel]:
    """Open a chat model by name, and close its connections at the end.

    Args:
        name: ``provider:model`` as in LangChain's ``init_chat_model``, or only a model if its provider is clear. With
            ``base_url``, a name without a provider means an OpenAI-compatible server.
        base_url: address of the server, if it is not the provider's default.
        api_key: the provider's key; default: from its environment variable.

    Raises:
        InputError: the name, or a value in the environment, is wrong.
        MissingExtraError: the provider's package is not installed.
    """
    provider, model = split_name(name, openai_compatible=base_url is not None)
    options: dict[str, Any] = {}
    if base_url is not None:
        options["base_url"] = base_url
    if api_key is not None:
        options["api_key"] = api_key
    async with AsyncExitStack() as stack:
        if provider == "openai":
            own_server = _address_of_openai(base_url)
            if own_server and api_key is None and not os.environ.get("OPENAI_API_KEY"):
                options["api_key"] = _NO_KEY
            options["max_retries"] = 0  # the engine makes the retries, because it knows the limits
            if _has_openai():
                options |= _openai_transport(own_server, aiohttp_client, logging.WARNING)
            if (client := options.get("http_async_client")) is not None:
                stack.push_async_callback(client.aclose)
        yield _create(name, provider, model, options)


def chat_model(given: Any, what: str = "model", **options: Any) -> BaseChatModel:
    """The chat model of an argument: a LangChain chat model, or a name such as ``"openai:gpt-5"``.

    Args:
        given: the model or its name.
        what: name of the argument, for the error.
        **options: ``api_key`` and ``base_url``, for a model that is given by name.

    Raises:
        InputError: it is neither, or the name is unknown.
        MissingExtraError: the provider's package is not installed.
    """
    from langchain_core.language_models import BaseChatModel  # noqa: PLC0415 - not needed for `rlm --help`

    if isinstance(given, BaseChatModel):
        return given
    if isinstance(given, str):
        provider, model = split_name(given, openai_compatible=options.get("base_url") is not None)
        if provider == "openai" and _has_openai():
            options |= _openai_transport(_address_of_openai(options.get("base_url")), shared_client, logging.INFO)
        return _create(given, provider, model, options)
    package = type(given).__module__.partition(".")[0]
    if package == "dspy":
        raise InputError(
            f"{what}={type(given).__name__}({getattr(given, 'model', '')!r}) is a DSPy LM: give ChatDSPy(lm=...), "
            "or a name such as 'openai:gpt-5'"
        )
    raise InputError(
        f"{what}={given!r:.200}: give a LangChain chat model such as ChatOpenAI(model=...), or a name such as "
        "'openai:gpt-5'"
    )


def named_models(given: Mapping[str, Any] | None, **options: Any) -> dict[str, BaseChatModel]:
    """Further models by name, each converted by `chat_model`.

    Raises:
        InputError: one of them is not a model.
        MissingExtraError: a provider's package is not installed.
    """
    return {name: chat_model(model, f"models[{name!r}]", **options) for name, model in (given or {}).items()}


def split_name(name: str, *, openai_compatible: bool = False) -> tuple[str | None, str]:
    """Split ``provider:model``. The provider is None if LangChain must infer it from the model.

    Args:
        name: the name. A model's tag may have a colon: ``qwen3:8b`` has no provider, ``ollama:qwen3:8b`` has one.
        openai_compatible: a name without a provider means ``openai``.

    Raises:
        InputError: the name is empty.
    """
    from langchain.chat_models import base  # noqa: PLC0415 - slow to import, and not needed for `rlm --help`

    prefix, colon, model = name.strip().partition(":")
    provider = prefix.replace("-", "_").lower()
    known = getattr(base, "_BUILTIN_PROVIDERS", {"openai": None, "anthropic": None, "ollama": None})
    if colon and provider in known:
        if not model:
            raise InputError(f"model {name!r} has no name after the provider: give provider:name")
        return provider, model
    if not name.strip():
        raise InputError("the model's name is empty: give provider:name, such as openai:gpt-5-mini")
    if openai_compatible:
        return "openai", name.strip()
    infer = getattr(base, "_attempt_infer_model_provider", lambda _: None)
    return infer(name.strip()), name.strip()


def _has_openai() -> bool:
    """Whether the packages for OpenAI are installed. If not, the creation of the model says what to install."""
    return find_spec("openai") is not None and find_spec("langchain_openai") is not None


def _address_of_openai(base_url: str | None) -> str | None:
    """The address of another server than OpenAI's own, if there is one."""
    return base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE")


def _openai_transport(address: str | None, make: Callable[[], Any], level: int) -> dict[str, Any]:
    """Options for OpenAI's client: the aiohttp transport, if it is installed and no proxy is used.

    Args:
        address: of the server; None: OpenAI's own.
        make: makes the client.
        level: of the message about a missing transport.
    """
    if os.environ.get("OPENAI_PROXY") or _needs_proxy(address or _OPENAI):
        return {}  # LangChain's own clients can use every kind of proxy
    try:
        options = {"http_async_client": make()}
    except Exception as error:  # noqa: BLE001 - whatever it is, the default transport works
        _log.log(
            level,
            "calls in parallel will be slow: openai's aiohttp transport is not available (%s); "
            "pip install 'openai[aiohttp]'",
            _one_line(error),
        )
        return {}
    return options | _quiet_about_proxies()


def _needs_proxy(address: str) -> bool:
    """Whether the settings of the machine name a proxy for this address."""
    parts = urlsplit(address)
    proxies = getproxies()
    return any(proxies.get(kind) for kind in (parts.scheme, "all")) and not proxy_bypass(parts.netloc)


def _quiet_about_proxies() -> dict[str, Any]:
    """With a client of ours, LangChain would warn that the sync client ignores proxies, and make it ignore them."""
    from langchain_openai import ChatOpenAI  # noqa: PLC0415 - slow to import

    return {"http_socket_options": ()} if getproxies() and "http_socket_options" in ChatOpenAI.model_fields else {}


def _create(name: str, provider: str | None, model: str, options: dict[str, Any]) -> BaseChatModel:
    from langchain.chat_models import init_chat_model  # noqa: PLC0415 - slow to import

    try:
        created: BaseChatModel = init_chat_model(model, model_provider=provider, **options)
    except ImportError as error:
        if provider == "openai" or "langchain-openai" in str(error):
            raise MissingExtraError(f"model {name!r} needs pip install 'rlm-adapters[openai]'") from error
        raise MissingExtraError(f"model {name!r}: {_one_line(error)}") from error
    except Exception as error:
        message = _one_line(error)
        if "infer" in message:
            message = "its provider is unknown: give provider:name, or the base URL of an OpenAI-compatible server"
        elif "api_key" in message.lower() or "credentials" in message.lower():
            variable = f"{(provider or 'provider').upper()}_API_KEY"
            message = f"no API key: set {variable}, or give a base URL of a server that needs none"
        raise InputError(f"model {name!r} cannot be used: {message}") from error
    return created


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
