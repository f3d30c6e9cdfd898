"""Handle two habits of root LMs: very many tiny calls, and checking an answer again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rlm_adapters.graph.context import NodeContext
from rlm_adapters.models.tokens import CHARS_PER_TOKEN
from rlm_adapters.sandbox import HostCall

_TINY_CHARS = 1_000  # average length of a prompt; shorter prompts are tiny
_DEFAULT_WINDOW = 8_192  # tokens, for a sub-LM with an unknown window
_FILL = 0.5  # share of the window that one prompt should take
_MOST_ITEMS = 100  # in one prompt; with more items models count wrongly


def count_asked(asked: Mapping[str, int], calls: Iterable[HostCall]) -> dict[str, int]:
    """Number of sub-calls of the current cell, and the characters of their prompts."""
    prompts = [_chars(call.args[0]) for call in calls if call.function == "llm_query" and call.args]
    return {"calls": asked.get("calls", 0) + len(prompts), "chars": asked.get("chars", 0) + sum(prompts)}


def tiny_calls(asked: Mapping[str, int], node: NodeContext) -> str | None:
    """A note about a cell that makes very many tiny calls; None if it does not."""
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
    """How often the candidate answer was repeated unchanged, with ``stated``."""
    before: int = state.get("confirmations") or 0
    if stated is None:
        return before
    known = state.get("candidate")
    return before + 1 if isinstance(known, str) and known.strip() == stated.strip() else 0


def confirmed(state: Mapping[str, Any], node: NodeContext) -> str | None:
    """The candidate, if it was repeated often enough to end the run."""
    enough, candidate = node.config.max_confirmations, state.get("candidate")
    count: int = state.get("confirmations") or 0
    return candidate if enough is not None and count >= enough and isinstance(candidate, str) else None


def _chars(prompt: object) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return _TINY_CHARS  # a reference to an input, or content blocks: these are not tiny
