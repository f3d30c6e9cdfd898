"""A DSPy LM that plays a script. It holds no state: what it answers follows from the prompt, so threads may share it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import Message, Response, TextDelta, TextPart, Usage, response_to_events

Fields = dict[str, Any]
Script = Callable[[str], "Fields | str"]


class _Engine:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.prompts: list[str] = []
        self._lock = threading.Lock()

    def complete(self, request: Any) -> Response:
        system = request.system if isinstance(request.system, str) else ""
        prompt = "\n".join([system, *(message.text or repr(message.parts) for message in request.messages)])
        with self._lock:
            self.prompts.append(prompt)
        answer = self.script(prompt)
        text = answer if isinstance(answer, str) else fields_text(answer)
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(text)]),
            finish_reason="stop",
            usage=Usage(input_tokens=100, output_tokens=10),
        )

    def stream(self, request: Any) -> Any:
        return _word_by_word(self.complete(request))

    def close(self) -> None:
        pass


class _AsyncEngine:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    async def complete(self, request: Any) -> Response:
        return self._engine.complete(request)

    async def stream(self, request: Any) -> Any:
        for event in _word_by_word(self._engine.complete(request)):
            yield event

    async def aclose(self) -> None:
        pass


def _word_by_word(response: Response) -> Any:
    for event in response_to_events(response):
        delta = getattr(event, "delta", None)
        if isinstance(delta, TextDelta):
            for word in re.split(r"(?<= )", delta.text):
                yield replace(event, delta=replace(delta, text=word))
        else:
            yield event


def scripted_lm(script: Script, name: str = "scripted/lm", **options: Any) -> dspy.LM:
    """An LM that answers by ``script(prompt)``: output fields, or the text as it is."""
    engine = _Engine(script)
    options.setdefault("cache", False)
    lm = dspy.LM(name, engine=engine, async_engine=_AsyncEngine(engine), **options)
    lm.prompts = engine.prompts
    return lm


def playing(*cells: str, extract: Fields | None = None, sub: Callable[[str], str] | None = None) -> dspy.LM:
    """An LM whose action steps are these cells, in order."""

    def script(prompt: str) -> Fields | str:
        if "`code`" not in prompt and extract is not None and "repl_history" in prompt:
            return extract
        if "repl_history" not in prompt:
            return sub(prompt) if sub is not None else f"answer to: {prompt.strip()}"
        return {"reasoning": f"step {step_of(prompt) + 1}", "code": cells[step_of(prompt)]}

    return scripted_lm(script)


def step_of(prompt: str) -> int:
    """How many steps the last message shows."""
    return prompt.rpartition("[[ ## repl_history ## ]]")[2].count("=== Step ")


def fields_text(fields: Fields) -> str:
    """Output fields as ChatAdapter's models write them."""
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def codes(trajectory: Sequence[Fields]) -> list[str]:
    """The code of each step."""
    return [step["code"] for step in trajectory]
