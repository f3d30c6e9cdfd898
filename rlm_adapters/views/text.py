"""Texts about a run that are safe for a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_MAX_LINES = 30  # of an output or a cell on the screen; the events have all of it
_MAX_LINE = 600  # characters of one line
_HEAD_CHARS, _HEAD_WORDS = 60, 40  # of a prompt or an answer in a line

# A cell can print any part of its input. Escape sequences in it must not reach the user's terminal.
_UNSAFE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\ud800-\udfff]")


def safe(text: str) -> str:
    """The text with visible control characters, safe for a terminal."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match.group()):02x}", text.replace("\r\n", "\n"))


def clipped(text: str, lines: int = _MAX_LINES) -> str:
    """Head and tail of a text, with the number of lines or characters left out between them."""
    parts = text.splitlines()
    if len(parts) > lines:
        head, tail = lines * 2 // 3, lines - lines * 2 // 3
        parts = [*parts[:head], f"... {len(parts) - lines:,} lines ...", *parts[len(parts) - tail :]]
    return "\n".join(line if len(line) <= _MAX_LINE else _clipped_line(line) for line in parts)


def _clipped_line(line: str) -> str:
    half = _MAX_LINE // 2
    return f"{line[:half]} ... {len(line) - 2 * half:,} characters ... {line[-half:]}"


def describe_usage(usage: Mapping[str, Any]) -> str:
    """Calls, tokens and cost of a run in one line."""
    parts = [
        number_of(model_calls(usage), "model call"),
        f"{usage.get('input_tokens', 0):,} + {usage.get('output_tokens', 0):,} tokens",
    ]
    if usage.get("failed_calls"):
        parts.insert(1, f"{usage['failed_calls']:,} failed")
    if usage.get("cost", 0) is None:
        parts.append("cost unknown")
    elif usage.get("cost"):
        parts.append(f"${usage['cost']:.4f}")
    if usage.get("ahead_wasted"):
        parts.append(f"{usage['ahead_wasted']} run ahead but not used")
    return ", ".join(parts)


def model_calls(usage: Mapping[str, Any]) -> int:
    """Number of answered model calls of all kinds."""
    return sum(int(usage.get(key, 0)) for key in ("calls", "root_calls", "extract_calls"))


def answer_text(answer: object) -> str:
    """An answer as text. If it is not a text: as JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, indent=2, default=repr)


def describe_input(item: Mapping[str, Any]) -> str:
    """Name, type and size of an input."""
    size, kind = item.get("size"), item.get("type")
    unit = {"str": "character", "bytes": "byte"}.get(str(kind), "item")
    return f"{item.get('name')}: {kind}" + (f", {number_of(size, unit)}" if isinstance(size, int) else "")


def first_words(text: object) -> str:
    """The first words of a text, in one line."""
    whole = " ".join(str(text or "").split()[:_HEAD_WORDS])
    return safe(whole if len(whole) <= _HEAD_CHARS else f"{whole[:_HEAD_CHARS]}...")


def call_figures(data: Mapping[str, Any]) -> str:
    """Seconds, tokens and cost of a call."""
    tokens, parts = data.get("tokens") or {}, []
    if isinstance(data.get("seconds"), int | float):
        parts.append(f"{data['seconds']:.1f} s")
    if tokens.get("input") or tokens.get("output"):
        cached = f" ({tokens['cached']:,} cached)" if tokens.get("cached") else ""
        parts.append(f"{tokens.get('input', 0):,}{cached} + {tokens.get('output', 0):,} tokens")
    if data.get("cost"):
        parts.append(f"${data['cost']:.4f}")
    if data.get("attempts", 1) > 1:
        parts.append(f"{data['attempts']} attempts")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """A time as minutes and seconds, with hours if necessary."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def number_of(number: int, noun: str) -> str:
    """A number with its noun, such as ``3 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
