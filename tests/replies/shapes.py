"""Texts that repeat one thing for ever, and how long each reader takes for them.

Run as a module in a process of its own: a reader that takes quadratic time is then killed rather than waited for. Each
line that it prints is a JSON list: shape, reader, seconds for the short text, seconds for the long one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from rlm_adapters.replies import TextFinish, accept_provisional, read_reply

SHORT: Final = 12_500
LONG: Final = 100_000
_TRIES: Final = 3

SHAPES: Final = {
    "blanks": " ",
    "tabs": "\t",
    "invisible characters": "\u200b",
    "empty lines": "\n",
    "blank lines": " \n",
    "carriage returns": "\r",
    "one word": "a",
    "words": "word ",
    "paragraphs": "Some words here.\n\n",
    "fences": "```\n",
    "python fences": "```python\n",
    "python blocks": "```python\nx = 1\n```\n",
    "tildes": "~",
    "backticks": "`",
    "opening parentheses": "(",
    "parentheses": "()",
    "opening brackets": "[",
    "opening braces": "{",
    "single quotes": "'",
    "double quotes": '"',
    "triple quotes": '"""',
    "escaped quotes": '\\"',
    "escaped triple quotes": '\\"""\n',
    "backslashes": "\\",
    "FINAL(": "FINAL(",
    "FINAL( on lines": "FINAL(\n",
    "FINAL(x) on lines": "FINAL(x)\n",
    "FINAL taken back": "FINAL(x)\nWait\n",
    "FINAL in a sentence": "so FINAL(x) ",
    "<think>": "<think>",
    "</think>": "</think>\n",
    "<code>": "<code>\n",
    "code in tags": "<code>\nx = 1\n</code>\n",
    "<tool_call>": "<tool_call>\n",
    "tool calls": '<tool_call>\n{"name": "python", "arguments": {"code": "x = 1"}}\n</tool_call>\n',
    "XML parameters": '<invoke name="python">\n<parameter name="code">x = 1\n',
    "JSON": '{"code": "x"}\n',
    "JSON that never ends": '{"code": "',
    "JSON with unescaped quotes": '{"code": "a"b"}\n',
    "Harmony": "<|start|>assistant<|channel|>analysis<|message|>a<|end|>",
    "ends of turns": "'<|im_end|>' ",
    "actions": "Action: python\nAction Input: x\n",
    "DSPy fields": "[[ ## code ## ]]\n",
    "a conversation": "User: hi\n\nAssistant: ok\n\n",
    "outputs": "Output: 3\n",
    "statements": "x = 1\n",
    "a loop that never ends": "for x in y in ",
    "the answer is": "the answer is ",
    "boxes": "\\boxed{",
    "entities": "&lt;",
    "long numbers": "1",
}
SURROUNDED: Final = {
    "alone": "{}",
    "in a block": "```python\nx = 1\n{}\n```\n",
    "in a finish": "FINAL({})",
}

READERS: Final[dict[str, Callable[[str], object]]] = {
    **{
        f"a reply, {place}": lambda text, form=form: read_reply(form.format(text), names=["x"])
        for place, form in SURROUNDED.items()
    },
    "arguments of a tool call": lambda text: read_reply(
        "", tool_calls=[{"function": {"name": "python", "arguments": text}}]
    ),
    "a provisional answer": lambda text: accept_provisional(
        TextFinish("text", text, provisional=True), f"{text}{text}x"
    ),
    "an output for a provisional answer": lambda text: accept_provisional(
        TextFinish("text", "42", provisional=True), text
    ),
}


def repeated(shape: str, length: int) -> str:
    """The shape repeated to about that length, a multiple of twelve times: what pairs off in one length does in all."""
    return shape * (length // len(shape) // 12 * 12)


def seconds(reader: Callable[[str], object], text: str) -> float:
    """Processor time: what else the machine does counts little."""
    started = time.process_time()
    reader(text)
    return time.process_time() - started


def main() -> None:
    """Measure all; a pair that looks slower than linear is measured again."""
    for name, shape in SHAPES.items():
        for reading, reader in READERS.items():
            short = repeated(shape, SHORT)
            pair = (0.0, 0.0)
            for _ in range(_TRIES):
                pair = seconds(reader, short), seconds(reader, short * (LONG // SHORT))
                if is_linear(*pair):
                    break
            print(json.dumps([name, reading, *pair]), flush=True)


def is_linear(short: float, long: float) -> bool:
    """Whether eight times the text took at most three times eight times as long.

    Quadratic time is 64 times as long. What is done in a hundredth of a second cannot be measured well, nor need it be.
    """
    return long <= 3 * (LONG // SHORT) * max(short, 0.01)


if __name__ == "__main__":
    main()
