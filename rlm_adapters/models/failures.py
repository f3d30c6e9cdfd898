"""Classify a provider's exception: its kind, and whether and when to retry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from rlm_adapters.errors import ModelCallError
from rlm_adapters.models.provider_errors import (
    answers_html,
    chain,
    codes_of,
    is_no_address,
    is_stale,
    network_error,
    status_of,
)

_DETAIL_CHARS: Final = 500

_QUOTA_CODES: Final = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_QUOTA_SIGNS: Final = (
    "insufficient_quota",
    "credit balance is too low",
    "insufficient balance",
    "insufficient credits",
)
"""Texts of a used-up quota. "exceeded your current quota" is not one: Gemini uses it for each rate limit."""

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
"""Attributes with the address in LangChain's and DSPy's models."""

_REMEDIES: Final = {
    "auth": "check its API key, and what that key may use",
    "quota": "its account has no credit left: check plan and billing",
    "unknown_model": "check the model's name, and whether the key may use it",
    "address": "check the base URL, and that the model's server runs",
    "network": "check the network, and that the model's server runs",
    "rate_limit": "lower Limits.max_concurrency, or set Limits.requests_per_minute to what the account allows",
    "timeout": "raise Limits.call_timeout, or take a faster model",
}
"""Remedies by kind of failure."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts about an exception that the rules check."""

    error: BaseException
    name: str
    """Name of its class, in lower case."""
    text: str
    short: str
    """Its text in one line, without the client's advice about its options."""
    status: int | None
    codes: set[str]

    @classmethod
    def of(cls, error: BaseException) -> _Facts:
        text = str(error).strip() or type(error).__name__
        short = " ".join(text.partition("\n\n")[0].split())  # the rest is the client's advice
        short = short if len(short) <= _DETAIL_CHARS else short[:_DETAIL_CHARS] + " ..."
        return cls(error, type(error).__name__.lower(), text, short, status_of(error), codes_of(error))

    def named(self, *signs: str) -> bool:
        """Whether the name of the class contains one of the words."""
        return any(sign in self.name for sign in signs)

    def says(self, *signs: str) -> bool:
        """Whether the text contains one of the words."""
        lowered = self.text.lower()
        return any(sign in lowered for sign in signs)


def classify(error: BaseException) -> ModelCallError:
    """Classify a provider's exception by its status code, class and text."""
    if isinstance(error, ModelCallError):
        return error
    facts = _Facts.of(error)
    found = (rule(facts) for rule in _RULES)
    return next((failure for failure in found if failure is not None), _unknown(facts))


def _no_connection(facts: _Facts) -> ModelCallError | None:
    """No connection. Checked before time-outs, because some transports report a refused connection as a time-out."""
    if is_stale(facts.error):
        return _network(facts.short)
    said = network_error(facts.error)
    return None if said is None else _network(said or facts.short)


def _no_address(facts: _Facts) -> ModelCallError | None:
    if is_no_address(facts.error):
        return ModelCallError(f"not an address: {facts.short}", kind="address")
    return None


def _timed_out(facts: _Facts) -> ModelCallError | None:
    if isinstance(facts.error, TimeoutError) or facts.named("timeout") or facts.status == 408:
        return ModelCallError(f"model call timed out: {facts.short}", kind="timeout", retryable=True)
    return None


def _too_long(facts: _Facts) -> ModelCallError | None:
    said = facts.says("context_length", "maximum context", "too many tokens")
    if said or facts.named("contextoverflow", "contextlength", "contextwindow"):
        return ModelCallError(facts.short, kind="context_length")
    return None


def _account(facts: _Facts) -> ModelCallError | None:
    """Failures of the account: quota and rights."""
    if facts.status == 402 or facts.named("billing") or facts.codes & _QUOTA_CODES or facts.says(*_QUOTA_SIGNS):
        return ModelCallError(facts.short, kind="quota")
    if facts.status == 429 or facts.named("ratelimit"):
        return ModelCallError(facts.short, kind="rate_limit", retryable=True)
    if facts.status == 403 and facts.says("moderation", "flagged"):  # OpenRouter: only this prompt is refused
        return ModelCallError(facts.short, kind="refusal")
    if facts.status in (401, 403) or facts.named("authentication", "autherror", "permissiondenied"):
        return ModelCallError(facts.short, kind="auth")
    return None


def _unknown_model(facts: _Facts) -> ModelCallError | None:
    said = facts.status in (400, 404) and _UNKNOWN_MODEL.search(facts.text)
    if said or facts.codes & _UNKNOWN_CODES or facts.named("unsupportedmodel"):
        return ModelCallError(facts.short, kind="unknown_model")
    return None


def _wrong_address(facts: _Facts) -> ModelCallError | None:
    """The address is not that of a model server."""
    if facts.status in (404, 405):
        return ModelCallError(f"there is no model server at this address: {facts.short}", kind="address")
    if answers_html(facts.error):
        return ModelCallError("the server answered with a web page, not with JSON", kind="address", retryable=True)
    return None


def _other_status(facts: _Facts) -> ModelCallError | None:
    """A failure of the server, or a refusal of the request."""
    if (facts.status or 0) >= 500 or facts.named("servererror") or facts.says("overloaded"):
        return ModelCallError(facts.short, kind="server", retryable=True)
    if (facts.status or 0) >= 400:
        return ModelCallError(facts.short, kind="refusal" if facts.says("content_filter") else "bad_request")
    return None


def _lost_connection(facts: _Facts) -> ModelCallError | None:
    if isinstance(facts.error, EOFError) or facts.named(*_CONNECTION_NAMES):
        return _network(facts.short)
    return None


def _nonsense(facts: _Facts) -> ModelCallError | None:
    if facts.named("jsondecode", "apiresponsevalidation") or facts.status == 200:
        text = f"the model's server answered nonsense: {facts.short}"
        return ModelCallError(text, kind="server", retryable=True)
    return None


def _unknown(facts: _Facts) -> ModelCallError:
    return ModelCallError(f"{type(facts.error).__name__}: {facts.short}", kind="other")


def _network(said: str) -> ModelCallError:
    return ModelCallError(f"no connection to the model's server: {said}", kind="network", retryable=True)


_RULES: Final[tuple[Callable[[_Facts], ModelCallError | None], ...]] = (
    _no_connection,
    _no_address,
    _timed_out,
    _too_long,
    _account,
    _unknown_model,
    _wrong_address,
    _other_status,
    _lost_connection,
    _nonsense,
)
"""Rules in order. The first one that recognises the failure decides."""


def locate(
    failure: ModelCallError, error: BaseException, *, model: str, role: str, address: str | None, tries: int
) -> None:
    """Add the call and the remedy to a failure.

    Args:
        failure: from `classify`.
        error: the original exception.
        model: name of the model.
        role: ``root LM`` or ``sub-LM``.
        address: address in the model's settings, for clients that do not report the called address.
        tries: number of attempts.
    """
    failure.model, failure.role, failure.tries = model, role, tries
    failure.address = _called_address(error) or address_without_secrets(address)
    failure.remedy = _remedy(failure)


def address_of(model: Any) -> str | None:
    """The base URL in a client object; None if there is none."""
    options = getattr(model, "kwargs", None)
    given = options.get("api_base") or options.get("base_url") if isinstance(options, Mapping) else None
    values = (given, *(getattr(model, name, None) for name in _ADDRESS_NAMES))
    return next((str(value) for value in values if isinstance(value, str) and value), None)


def address_without_secrets(address: str | None) -> str | None:
    """An address that can be shown: without user, password and query, which may have keys."""
    if not address:
        return None
    try:
        parts = urlsplit(str(address))
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}" if host else parts.path or None


def _called_address(error: BaseException) -> str | None:
    for link in chain(error):
        try:
            url = str(getattr(getattr(link, "request", None), "url", "") or "")
        except RuntimeError:  # httpx: there is no request
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
