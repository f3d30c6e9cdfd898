"""What a thread remembers: its questions, and the inputs of each question.

The journal continues with the next question, so variables, functions and files of earlier cells exist. A new input
replaces an earlier one of the same name from that cell on. A replay needs both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.graph.shapes import check_remembered
from rlm_adapters.graph.state import Question, is_readable
from rlm_adapters.graph.stored import Stored
from rlm_adapters.prompts import EarlierQuestion, InputInfo, cut_middle
from rlm_adapters.values.refs import Packed

_TOLD: Final = 5
"""Number of earlier questions that the root LM sees with their answers. Of older ones it sees only the number."""
_ANSWER_CHARS: Final = 1_000
_QUERY_CHARS: Final = 600


def closed(state: Mapping[str, Any], content: Stored) -> list[Question]:
    """The questions of a thread so far, the last one with its result.

    Raises:
        InputError: a client has edited the questions.
    """
    if not state.get("questions") or not is_readable(state):
        return []
    check_remembered(state)
    *before, last = state["questions"]
    outcome = {"answer": content.write(state.get("answer")), "finish_reason": state.get("finish_reason")}
    return [*before, {**last, **outcome}]


def current(questions: Sequence[Question], key: str) -> dict[str, Packed]:
    """The current inputs (``variables`` or ``files``): a new input replaces an earlier one of the same name."""
    return {name: value for one in questions for name, value in one[key].items()}  # type: ignore[literal-required]


def rounds(state: Mapping[str, Any]) -> list[Question]:
    """The questions with their inputs, for a replay. Edited inputs in the state apply from the last question on."""
    *before, last = state["questions"]
    changed: dict[str, Any] = {}
    for key in ("variables", "files"):
        known = current(before, key)
        changed[key] = {
            name: value
            for name, value in (state.get(key) or {}).items()
            if name in last[key] or name not in known or known[name] != value
        }
    return [*before, {**last, **changed}]


def described(questions: Sequence[Question]) -> tuple[InputInfo, ...]:
    """The descriptions of the current inputs, for the prompt.

    Raises:
        InputError: a client has edited them.
    """
    try:
        every = [InputInfo(**info) for one in questions for info in json.loads(one["described"])]
    except (TypeError, ValueError):
        raise InputError("the state's 'questions' were edited: leave 'described' as it is") from None
    return tuple({info.name: info for info in every}.values())


def earlier(questions: Sequence[Question], content: Stored) -> tuple[EarlierQuestion, ...]:
    """The last few earlier questions with their answers. Their texts are loaded."""
    return tuple(
        EarlierQuestion(
            cut_middle(content.read(one["query"]), _QUERY_CHARS),
            _answer(content.read(one.get("answer"))),
            one.get("finish_reason") or "not finished",
        )
        for one in told(questions)
    )


def told(questions: Sequence[Question]) -> Sequence[Question]:
    """The earlier questions that the root LM sees."""
    return questions[:-1][-_TOLD:]


def _answer(answer: Any) -> str:
    if answer is None:
        return "none"
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
    return cut_middle(text, _ANSWER_CHARS)
