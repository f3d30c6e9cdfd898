"""Cures for two habits of root LMs: a thousand calls where twenty would do, and checking an answer for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rlm_adapters.graph.context import NodeContext
from rlm_adapters.models.tokens import CHARS_PER_TOKEN
from rlm_adapters.sandbox import HostCall

_TINY_CHARS = 1_000  # a prompt on average shorter than this shares its call's price with nothing
_DEFAULT_WINDOW = 8_192  # tokens, of a sub-LM whose window nobody knows
_FILL = 0.5  # share of the window that one prompt should take
_MOST_ITEMS = 100  # in one prompt: beyond that models lose count


def count_asked(asked: Mapping[str, int], calls: Iterable[HostCall]) -> dict[str, int]:
    """Sub-calls of the cell in progress, and the characters of their prompts."""
    prompts = [_chars(call.args[0]) for call in calls if call.function == "llm_query" and call.args]
    return {"calls": asked.get("calls", 0) + len(prompts), "chars": asked.get("chars", 0) + sum(prompts)}


def tiny_calls(asked: Mapping[str, int], node: NodeContext) -> str | None:
    """What to tell about a cell that makes very many tiny calls; None: it does not."""
    calls, least = asked.get("calls", 0), node.config.warn_tiny_calls
    if not least or calls < least:
        return None
    mean = max(1, asked["chars"] // calls)
    if mean >= _TINY_CHARS:
        return None
    window = node.config.sub.context_window() or _DEFAULT_WINDOW
    fit = min(_MOST_ITEMS, int(window * CHARS_PER_TOKEN * _FILL) // mean)
    if fit < 2:
        return None
    return (
        f"This cell made {calls:,} sub-calls of about {mean:,} characters each. About {fit} such items fit into one "
        f"prompt: number them, join them, and ask for one line per item; that is {-(-calls // fit)} calls."
    )


def confirmations(state: Mapping[str, Any], stated: str | None) -> int:
    """How often the candidate answer was stated again, unchanged, now that ``stated`` was."""
    before: int = state.get("confirmations") or 0
    if stated is None:
        return before
    known = state.get("candidate")
    return before + 1 if isinstance(known, str) and known.strip() == stated.strip() else 0


def confirmed(state: Mapping[str, Any], node: NodeContext) -> str | None:
    """The candidate, when it was confirmed so often that the run ends with it."""
    enough, candidate = node.config.max_confirmations, state.get("candidate")
    count: int = state.get("confirmations") or 0
    return candidate if enough is not None and count >= enough and isinstance(candidate, str) else None


def _chars(prompt: object) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return _TINY_CHARS  # an input by reference, or content blocks: neither is tiny
