"""Prices of models, for cost limits and reported costs."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError

BUNDLED: Final = Path(__file__).with_name("prices.json")
"""List prices of common models with their date, for machines without litellm. ``make prices`` writes it."""

_MODES: Final = ("chat", "completion", "responses")

_LIST_PRICED: Final = frozenset({
    "anthropic", "azure", "azure_ai", "bedrock", "chat", "cohere", "converse", "deepseek", "gemini", "google",
    "google_genai", "google_vertexai", "langchain", "litellm_proxy", "mistral", "mistralai", "models", "openai",
    "openrouter", "responses", "vertex_ai", "x-ai", "xai",
})  # fmt: skip
"""Prefixes of hosts that have the prices of the model's maker. Hosts with other prices (Groq, Together) and the user's
own servers (vLLM, Ollama) are not among them: their models need an entry with the full name."""

_MAKERS: Final = ("openai", "anthropic", "gemini", "mistral", "xai", "deepseek", "cohere")
"""Prefixes that price lists use for models of some makers, but clients do not."""

_DATE: Final = re.compile(r"[-@](?:20\d{2}-\d{2}-\d{2}|20\d{6}|latest)$")
_BEDROCK: Final = re.compile(r"^(?:(?:us|eu|apac|jp|au|global)\.)?(?:anthropic|amazon|meta|mistral|cohere)\.")
_POINT: Final = re.compile(r"(?<=\d)\.(?=\d)")
_BEDROCK_VERSION: Final = re.compile(r"-v\d+(?::\d+)?$")


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Price of a model in US dollars per million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Price of one call."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


_PRICE_FORM: Final = "a pair (input, output), in dollars per million tokens"


def _price(name: str, price: Any) -> ModelPrice:
    if isinstance(price, ModelPrice):
        return price
    pair = tuple(price) if isinstance(price, Sequence) and not isinstance(price, str) else ()
    if len(pair) != 2 or not all(isinstance(part, int | float) and part >= 0 for part in pair):
        raise InputError(f"prices[{name!r}]={price!r}: give {_PRICE_FORM}")
    return ModelPrice(*pair)


class PriceTable:
    """Finds prices: first in the user's table (exact name, then the longest prefix), then in a public price list.

    The list is that of an installed litellm, else the dated list of this package. It is searched for the name, then for
    the name without the provider (``openrouter/openai/gpt-5``) and without the date (``gpt-5-2025-08-07``). Prices are
    those for prompts of ordinary length, without discounts for cached tokens.

    Args:
        prices: model name to `ModelPrice`, or to a pair (input, output) in dollars per million tokens.
    """

    def __init__(self, prices: Mapping[str, ModelPrice | tuple[float, float]] | None = None) -> None:
        if not isinstance(prices, Mapping | None):
            raise InputError(f"prices={prices!r}: give a dict from the names of models to {_PRICE_FORM}")
        self._prices = {name: _price(name, price) for name, price in (prices or {}).items()}
        self._found: dict[str, ModelPrice | None] = {}

    def find(self, model: str) -> ModelPrice | None:
        """The price of a model; None if it is unknown."""
        if model not in self._found:
            self._found[model] = self._of_user(model) or _public_price(model)
        return self._found[model]

    def cost(self, model: str, input_tokens: int, output_tokens: int) -> float | None:
        """The cost of a call in dollars; None if the model's price is unknown."""
        price = self.find(model)
        return None if price is None else price.cost(input_tokens, output_tokens)

    def require(self, model: str) -> ModelPrice:
        """Like `find`, but the price must be known.

        Raises:
            InputError: the price is unknown, so a cost limit cannot be checked.
        """
        price = self.find(model)
        if price is None:
            raise InputError(
                f"max_cost is set but the price of model {model!r} is unknown: pass prices={{{model!r}: "
                "ModelPrice(input=..., output=...)}} in dollars per million tokens (rlm: --price)"
            )
        return price

    def _of_user(self, model: str) -> ModelPrice | None:
        for name in _without_providers(model):
            prefixes = [known for known in self._prices if name.startswith(known)]
            if prefixes:
                return self._prices[max(prefixes, key=len)]
        return None


def load_prices() -> None:
    """Read the price list once per process. Later searches read no file."""
    _public_prices()


def prices_are_loaded() -> bool:
    """Whether `load_prices` was called."""
    return _public_prices.cache_info().currsize > 0


def prices_source() -> str:
    """The source and the date of the public prices."""
    if _litellm_file() is not None:
        return "the price list of the installed litellm"
    return f"the bundled price list of {json.loads(BUNDLED.read_bytes())['date']}"


def of_litellm(wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, ModelPrice]:
    """Prices of the language models in the list of an installed litellm.

    The list is read as a file, because importing litellm would use the network.

    Args:
        wanted: whether to use an entry of the list.
    """
    path = _litellm_file()
    try:
        entries = {} if path is None else json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {
        name: ModelPrice(_per_million(entry["input_cost_per_token"]), _per_million(entry.get("output_cost_per_token")))
        for name, entry in entries.items()
        if isinstance(entry, dict)
        and isinstance(entry.get("input_cost_per_token"), int | float)
        and entry.get("mode") in _MODES
        and wanted(entry)
    }


def _per_million(price: float | None) -> float:
    return round((price or 0.0) * 1e6, 6)


def _litellm_file() -> Path | None:
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    return path if path.is_file() else None


@cache
def _public_prices() -> Mapping[str, ModelPrice]:
    """The price list. If it has a name only with dates, the name without date has the price of the newest one."""
    bundled = json.loads(BUNDLED.read_bytes())["prices"]
    prices = {name: ModelPrice(*price) for name, price in bundled.items()} | of_litellm(lambda _: True)
    undated = {_DATE.sub("", name): prices[name] for name in sorted(prices)}
    return undated | prices


def _public_price(model: str) -> ModelPrice | None:
    prices = _public_prices()
    return next((prices[name] for name in _spellings(model) if name in prices), None)


def _without_providers(model: str) -> Iterator[str]:
    """The name, and the name without its first provider, without its first two, and so on."""
    yield model
    provider, slash, rest = model.partition("/")
    while slash and provider.lower() in _LIST_PRICED:
        yield rest
        provider, slash, rest = rest.partition("/")


def _spellings(model: str) -> Iterator[str]:
    """Possible names of a model in a price list, the most similar first."""
    for name in _without_providers(model.strip()):
        plain = _BEDROCK_VERSION.sub("", _BEDROCK.sub("", name))
        dashed = _POINT.sub("-", name)  # OpenRouter writes claude-sonnet-4.5
        for spelling in dict.fromkeys((name, name.lower(), _DATE.sub("", name), plain, _DATE.sub("", plain), dashed)):
            yield spelling
            if "/" not in spelling:
                yield from (f"{maker}/{spelling}" for maker in _MAKERS)
