"""What a provider's exception means: its kind, whether to try again, and when."""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from rlm_adapters.errors import ModelCallError

_LONGEST_CHAIN: Final = 50
"""Links of an exception that are looked at."""

_DETAIL_CHARS: Final = 500

_QUOTA_CODES: Final = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_QUOTA_SIGNS: Final = (
    "insufficient_quota",
    "credit balance is too low",
    "insufficient balance",
    "insufficient credits",
)
"""Not "exceeded your current quota" alone: Gemini says so at each rate limit."""

_UNKNOWN_CODES: Final = {"model_not_found", "deploymentnotfound", "unsupported_model"}
_UNKNOWN_MODEL: Final = re.compile(
    r"\bmodel\b.{0,200}\b(?:does not exist|not found|not supported|is not available)|invalid model|not a valid model"
    r"|unknown model|deployment for this resource does not exist|\bmodel: ",
    re.IGNORECASE | re.DOTALL,
)
_CONNECTION_NAMES: Final = ("connect", "protocolerror", "readerror", "transporterror")

_ADDRESS_NAMES: Final = (
    "openai_api_base", "azure_endpoint", "anthropic_api_url", "api_base", "base_url", "endpoint_url", "endpoint",
)  # fmt: skip
"""Attributes in which LangChain's and DSPy's models keep the address that they were given."""

_REMEDIES: Final = {
    "auth": "check its API key, and what that key may use",
    "quota": "its account has no credit left: check plan and billing",
    "unknown_model": "check the model's name, and whether the key may use it",
    "address": "check the base URL, and that the model's server runs",
    "network": "check the network, and that the model's server runs",
    "rate_limit": "lower Limits.max_concurrency, or set Limits.requests_per_minute to what the account allows",
    "timeout": "raise Limits.call_timeout, or take a faster model",
}
"""What to do, by kind of failure."""


def classify(error: BaseException) -> ModelCallError:
    """What kind of failure a provider's exception is, read from its status code, class and text.

    Providers' clients have no common base class, but nearly all exceptions carry ``status_code`` and ``response``.
    """
    if isinstance(error, ModelCallError):
        return error
    name = type(error).__name__.lower()
    text = str(error).strip() or type(error).__name__
    short = " ".join(text.partition("\n\n")[0].split())  # what follows is a client's advice about its own options
    short = short if len(short) <= _DETAIL_CHARS else short[:_DETAIL_CHARS] + " ..."
    status, codes, lowered = _status(error), _codes(error), text.lower()
    if is_stale(error):
        return ModelCallError(f"no connection to the model's server: {short}", kind="network", retryable=True)
    if (said := network_error(error)) is not None:  # some transports report a refused connection as a time-out
        return ModelCallError(f"no connection to the model's server: {said or short}", kind="network", retryable=True)
    if _is_no_address(error):
        return ModelCallError(f"not an address: {short}", kind="address")
    if isinstance(error, TimeoutError) or "timeout" in name or status == 408:
        return ModelCallError(f"model call timed out: {short}", kind="timeout", retryable=True)
    if "context_length" in lowered or "maximum context" in lowered or "too many tokens" in lowered:
        return ModelCallError(short, kind="context_length")
    if "contextoverflow" in name or "contextlength" in name or "contextwindow" in name:
        return ModelCallError(short, kind="context_length")
    if status == 402 or "billing" in name or codes & _QUOTA_CODES or any(sign in lowered for sign in _QUOTA_SIGNS):
        return ModelCallError(short, kind="quota")
    if status == 429 or "ratelimit" in name:
        return ModelCallError(short, kind="rate_limit", retryable=True)
    if status == 403 and ("moderation" in lowered or "flagged" in lowered):  # OpenRouter: about this prompt alone
        return ModelCallError(short, kind="refusal")
    if status in (401, 403) or any(sign in name for sign in ("authentication", "autherror", "permissiondenied")):
        return ModelCallError(short, kind="auth")
    if codes & _UNKNOWN_CODES or "unsupportedmodel" in name or (status in (400, 404) and _UNKNOWN_MODEL.search(text)):
        return ModelCallError(short, kind="unknown_model")
    if status in (404, 405):
        return ModelCallError(f"nothing that answers is there: {short}", kind="address")
    if _answers_html(error, lowered):
        return ModelCallError("the server answered with a web page, not with JSON", kind="address", retryable=True)
    if (isinstance(status, int) and status >= 500) or "servererror" in name or "overloaded" in lowered:
        return ModelCallError(short, kind="server", retryable=True)
    if isinstance(status, int) and status >= 400:
        return ModelCallError(short, kind="refusal" if "content_filter" in lowered else "bad_request")
    if isinstance(error, EOFError) or any(sign in name for sign in _CONNECTION_NAMES):
        return ModelCallError(f"no connection to the model's server: {short}", kind="network", retryable=True)
    if "jsondecode" in name or "apiresponsevalidation" in name or status == 200:
        return ModelCallError(f"the model's server answered nonsense: {short}", kind="server", retryable=True)
    return ModelCallError(f"{type(error).__name__}: {short}", kind="other")


def locate(
    failure: ModelCallError, error: BaseException, *, model: str, role: str, address: str | None, tries: int
) -> None:
    """Tell a failure which call it was of, and what to do about it.

    Args:
        failure: of `classify`.
        error: that it was read from.
        model: its name.
        role: ``root LM`` or ``sub-LM``.
        address: that the model was given, for clients that do not tell which one they called.
        tries: how often it was called.
    """
    failure.model, failure.role, failure.tries = model, role, tries
    failure.address = _called_address(error) or address_without_secrets(address)
    failure.remedy = _remedy(failure)


def address_of(model: Any) -> str | None:
    """The base URL that a client object was given, None if it shows none."""
    options = getattr(model, "kwargs", None)
    given = options.get("api_base") or options.get("base_url") if isinstance(options, Mapping) else None
    values = (given, *(getattr(model, name, None) for name in _ADDRESS_NAMES))
    return next((str(value) for value in values if isinstance(value, str) and value), None)


def address_without_secrets(address: str | None) -> str | None:
    """An address as it may be shown: without a user, a password and a query, where keys stand."""
    if not address:
        return None
    try:
        parts = urlsplit(str(address))
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}" if host else parts.path or None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and all that led to it, the nearest first: both its ``__cause__`` and its ``__context__``.

    Clients raise their own exception inside an ``except`` block, some with ``from`` and some without: following the
    causes alone loses what the operating system said. Each exception comes once, a circle ends.
    """
    seen: set[int] = set()
    waiting: deque[BaseException | None] = deque([error])
    while waiting and len(seen) < _LONGEST_CHAIN:
        link = waiting.popleft()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__]


def is_stale(error: BaseException) -> bool:
    """Whether a call met a connection of the client's pool from an earlier ``asyncio.run``.

    Nothing was sent. The client drops that connection, and takes the next one of its pool: there may be many of them.
    """
    return any(isinstance(link, RuntimeError) and "event loop is closed" in str(link).lower() for link in chain(error))


def network_error(error: BaseException) -> str | None:
    """What the operating system said of a connection, None if nothing at the bottom of an exception came from there."""
    found = [link for link in chain(error) if isinstance(link, ConnectionError | socket.gaierror)]
    if not found:
        return None
    return next((str(link.strerror) for link in found if link.strerror), str(found[0]))


def never_connected(error: BaseException) -> bool:
    """Whether there was no server: it refused the connection, or its name is unknown."""
    return any(isinstance(link, ConnectionRefusedError | socket.gaierror) for link in chain(error))


def retry_after(error: BaseException) -> float | None:
    """Seconds that the server asks to wait (``Retry-After``), None if it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        value = headers.get("retry-after") if headers is not None else None
        return None if value is None else max(0.0, float(value))
    except (TypeError, ValueError):
        return None


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    found = (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "status", None),
    )
    return next((status for status in found if isinstance(status, int)), None)


def _codes(error: BaseException) -> set[str]:
    """The provider's short names of what happened, which clients leave out of the text."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    told = [inner.get("code"), inner.get("type")] if isinstance(inner, Mapping) else []
    told += [getattr(error, name, None) for name in ("code", "type", "provider_code")]
    return {code.lower() for code in told if isinstance(code, str)}


def _is_no_address(error: BaseException) -> bool:
    return any(
        type(link).__name__ in ("UnsupportedProtocol", "InvalidURL", "InvalidUrlClientError")
        or "missing scheme" in str(link).lower()
        for link in chain(error)
    )


def _answers_html(error: BaseException, lowered: str) -> bool:
    """Whether the answer was a web page; clients say so by failing on it in many ways."""
    documents = [getattr(link, "doc", None) for link in chain(error)]
    if any(isinstance(document, str) and document.lstrip().startswith("<") for document in documents):
        return True
    return any(sign in lowered for sign in ("<html", "<!doctype", "'str' object has no attribute 'model_dump'"))


def _called_address(error: BaseException) -> str | None:
    for link in chain(error):
        try:
            url = str(getattr(getattr(link, "request", None), "url", "") or "")
        except RuntimeError:  # httpx: no request was set
            continue
        if "://" in url:
            return address_without_secrets(url)
    return None


def _remedy(failure: ModelCallError) -> str:
    if failure.kind == "address" and failure.address is not None:
        base = failure.address.removesuffix("/chat/completions").removesuffix("/responses").rstrip("/")
        if "/v1" not in base and "no connection" not in failure.detail:
            return f"check the base URL: OpenAI-compatible servers mostly want {base}/v1"
    return _REMEDIES.get(failure.kind, "")
