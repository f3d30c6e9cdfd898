"""Settings: the ways to ask a question that an evaluation compares."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.errors import InputError
from rlm_adapters.models.tokens import CHARS_PER_TOKEN, estimate_tokens

Way: TypeAlias = Literal["direct", "cut", "rlm"]

DEFAULT: Final = ("direct", "rlm-1")

_FORM: Final = re.compile(r"(?P<way>direct|direct-cut|rlm-(?P<depth>\d))(?P<example>\+example)?(?:@(?P<prompt>.+))?")
_DEEPEST: Final = 5
_REPLY_TOKENS: Final = 4_096  # part of the window that is kept for the reply, if the input is cut
_FRAME_TOKENS: Final = 300  # the instructions around the input
_LEAST_CHARS: Final = 1_000
_CUT: Final = "\n[... the middle was cut out: it does not fit ...]\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to ask a question.

    Attributes:
        name: the name, as the user wrote it.
        key: the name in results: it has a hash of the prompt file's content.
        way: ``direct``: one call with the whole input; ``cut``: one call with the part that fits; ``rlm``: a run.
        depth: recursion depth: 0 no sub-calls, 1 sub-LM calls, 2 child RLMs.
        worked_example: whether the root LM sees a short solved task.
        prompt: a prompt file instead of the default prompt.
    """

    name: str
    key: str
    way: Way
    depth: int = 0
    worked_example: bool = False
    prompt: Path | None = None


def setting_of(text: str) -> Setting:
    """Read a setting: ``direct``, ``direct-cut``, ``rlm-0``, ``rlm-1``, ``rlm-2+example``, ``rlm-1@prompt.json``.

    Raises:
        InputError: it is not one of these, or the prompt file cannot be read.
    """
    found = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or (found["depth"] or "0") > str(_DEEPEST):
        raise InputError(
            f"setting {text!r} is unknown: give direct, direct-cut, rlm-0, rlm-1 or rlm-2 (the depth), "
            "rlm-1+example, or rlm-1@FILE with a prompt file"
        )
    rlm = found["depth"] is not None
    if not rlm and (found["example"] or found["prompt"]):
        raise InputError(f"setting {text!r}: use an example or a prompt file only with rlm-0, rlm-1, rlm-2")
    if found["example"] and found["prompt"]:
        raise InputError(f"setting {text!r}: use +example or @FILE, not both")
    prompt = None if found["prompt"] is None else Path(found["prompt"])
    plain = found["way"] + (found["example"] or "")
    return Setting(
        name=plain if prompt is None else f"{plain}@{prompt.name}",
        key=plain if prompt is None else f"{plain}@{_digest(prompt)}",
        way="rlm" if rlm else "cut" if found["way"] == "direct-cut" else "direct",
        depth=int(found["depth"] or 0),
        worked_example=found["example"] is not None,
        prompt=prompt,
    )


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise InputError(f"prompt file {path}: {error.strerror}; give a file that an optimised RLM saved") from error


def cut_to_window(context: str | list[str], question: str, window: int) -> str | list[str]:
    """The start and the end of a context, as much as fits into a model's window.

    Args:
        context: of the task.
        question: of the task; it must fit, too.
        window: tokens of the window.

    Raises:
        InputError: the window is too small for anything.
    """
    text = context if isinstance(context, str) else json.dumps(context, ensure_ascii=False)
    room = window - min(_REPLY_TOKENS, window // 4) - _FRAME_TOKENS - estimate_tokens(question)
    chars = room * CHARS_PER_TOKEN
    if chars < _LEAST_CHARS:
        raise InputError(
            f"window={window!r} is too small for an input: give the model's window in tokens, such as 128000"
        )
    if len(text) <= chars:
        return context
    half = (chars - len(_CUT)) // 2
    return text[:half] + _CUT + text[-half:]


def described(setting: Setting) -> dict[str, Any]:
    """A setting as plain JSON."""
    return {
        "name": setting.name,
        "key": setting.key,
        "way": setting.way,
        "depth": setting.depth,
        "worked_example": setting.worked_example,
        "prompt": None if setting.prompt is None else setting.prompt.name,
    }
