"""LoCoDiff: the content of a file after a long history of changes, with the rules of its run script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.tasks.task import Question

_PROMPT, _EXPECTED = "_prompt.txt", "_expectedoutput.txt"
_OPENING: Final = re.compile(r"```(?:\w+)?\s*?\n?")
_ASKED: Final = (
    "The context is a task: instructions, and the history of a file as git tells it. Do what the instructions say. "
    "Answer with the whole content of the file after the last change, exactly, and nothing else."
)


def read(path: Path) -> Iterator[Question]:
    """Questions of a folder. Each ``NAME_prompt.txt`` in it or below needs a ``NAME_expectedoutput.txt``."""
    for prompt in sorted(path.rglob(f"*{_PROMPT}")):
        expected = prompt.with_name(prompt.name.removesuffix(_PROMPT) + _EXPECTED)
        try:
            context, answer = (one.read_text(encoding="utf-8") for one in (prompt, expected))
        except (OSError, UnicodeError) as error:
            raise InputError(f"{prompt}: its prompt or {expected.name} cannot be read ({error})") from error
        yield Question(text=_ASKED, context=context, answer=answer, kind="text", judge=partial(same, gold=answer))


def same(answer: str, *, gold: str) -> float:
    """1.0 if the content is the same, without the space around it, else 0.0."""
    return float(_unfenced(answer) == gold.strip())


def _unfenced(answer: str) -> str:
    """The text between the first and the last fence; without a fence, all of it."""
    opening = _OPENING.search(answer)
    if opening is None:
        return answer.strip()
    end = answer.rfind("```")
    return answer[opening.end() : end if end >= opening.end() else None].strip()
