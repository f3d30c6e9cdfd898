"""Prices of models, for cost limits and cost figures."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlm_adapters.errors import InputError


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Price of a model in US dollars per million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """Price of one call."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class PriceTable:
    """Looks up prices: the user's table first (exact name, then the longest prefix), then litellm's when installed.

    Args:
        prices: model name to `ModelPrice`, or to a pair (input, output) in dollars per million tokens.
    """

    def __init__(self, prices: Mapping[str, ModelPrice | tuple[float, float]] | None = None) -> None:
        self._prices = {
            name: price if isinstance(price, ModelPrice) else ModelPrice(*price)
            for name, price in (prices or {}).items()
        }
        self._found: dict[str, ModelPrice | None] = {}

    def find(self, model: str) -> ModelPrice | None:
        """The price of a model, None when nobody knows it."""
        if model not in self._found:
            prefixes = [name for name in self._prices if model.startswith(name)]
            longest = max(prefixes, key=len, default=None)
            self._found[model] = _litellm_prices().get(model) if longest is None else self._prices[longest]
        return self._found[model]

    def require(self, model: str) -> ModelPrice:
        """Like `find`.

        Raises:
            InputError: nobody knows the price, so a cost limit could not hold.
        """
        price = self.find(model)
        if price is None:
            raise InputError(
                f"max_cost is set but the price of model {model!r} is unknown: pass prices={{{model!r}: "
                "ModelPrice(input=..., output=...)}} in dollars per million tokens, or install litellm"
            )
        return price


def load_prices() -> None:
    """Read the price list that is installed, once in a process's life; later look-ups touch no file."""
    _litellm_prices()


def prices_are_loaded() -> bool:
    """Whether `load_prices` was called."""
    return _litellm_prices.cache_info().currsize > 0


@cache
def _litellm_prices() -> Mapping[str, ModelPrice]:
    """The price list that an installed litellm ships, read as a file: importing litellm would ask the network."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {
        name: ModelPrice(entry["input_cost_per_token"] * 1e6, entry.get("output_cost_per_token", 0) * 1e6)
        for name, entry in entries.items()
        if isinstance(entry, dict) and isinstance(entry.get("input_cost_per_token"), int | float)
    }
