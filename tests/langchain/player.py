"""A scripted LM that plays any short chat: as the root LM of an RLM, or asked plainly.

It knows three kinds of task: an answer of a schema, a tool that has to be or had better be called, and small talk.
Values for schemas and arguments come from the question where it has some (numbers, quoted text), else they are made up.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from tests.server import Reply, ToolCall, cell, question_text, turn_of
from tests.server.scripts import Message, ModelRequest

_TOOL = re.compile(r"^- `(\w+)\((.*?)\)`: (.*)$", re.MULTILINE)
_FIELD = re.compile(r"(\w+)=\.\.\.")
_OURS = {"llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched", "SUBMIT", "SHOW_VARS"}
_MADE_UP = {"int": "7", "float": "1.5", "bool": "True", "list": "[]", "dict": "{}", "None": "None"}


def play(messages: list[Message], request: ModelRequest) -> str:
    """The root LM's reply."""
    del request
    told = question_text(messages)
    system, opening = messages[0]["content"], messages[1]["content"]
    question = re.search(
        r"^Question: (.*?)(?=\n\n(?:Inputs|There are no inputs|The input))", opening, re.MULTILINE | re.DOTALL
    )
    asked = question.group(1) if question else opening
    if schema := re.search(r"SUBMIT\(([^)]*)\) with (.*)", opening):
        return cell(f"SUBMIT({_fields(schema.group(1), schema.group(2), asked)})")
    if "Give it as a JSON object" in opening or "with value: dict" in opening:
        return cell('SUBMIT({"setup": "Why do cats purr?", "punchline": "They can."})')
    tools = {name: (names, doc) for name, names, doc in _TOOL.findall(system) if name not in _OURS}
    if turn_of(messages) == 0 and (name := _wanted(tools, opening, asked)):
        names, doc = tools[name]
        call = f"{name}({_arguments(names, doc, asked)})"
        return cell(f"result = {call}\nSUBMIT(f'The tool says: {{result}}')")
    assert told
    return cell("SUBMIT('Hello there! How can I help you today?')")


def play_plainly(messages: list[Message], request: ModelRequest) -> str | Reply:
    """The reply of a model that is asked without an RLM: a call of a tool that was given with the request, or text.

    What cannot be asked plainly (a PDF) comes as a run.
    """
    if "```repl" in str(messages[0]["content"]):
        return play(messages, request)
    tools = {tool["function"]["name"]: tool["function"] for tool in request.body.get("tools") or ()}
    choice, asked = request.body.get("tool_choice"), question_text(messages)
    name = (
        choice["function"]["name"] if isinstance(choice, dict) else next(iter(tools)) if choice == "required" else None
    )
    if name is None and messages[-1]["role"] == "user":
        words = asked.lower()
        name = next((one for one in tools if any(len(w) > 3 and w in words for w in one.split("_"))), None)
    if name is None:
        return "Hello there! How can I help you today?"
    return Reply(tool_calls=(ToolCall(name, _object(tools[name].get("parameters") or {}, asked)),))


def _object(schema: Mapping[str, Any], asked: str) -> dict[str, Any]:
    """Arguments of a tool that fit its schema."""
    required = schema.get("required", ())
    fields = [(name, field) for name, field in (schema.get("properties") or {}).items() if name in required]
    return {name: _of_schema(name, field, asked, position) for position, (name, field) in enumerate(fields)}


def _of_schema(name: str, schema: Mapping[str, Any], asked: str, position: int) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kinds = {"integer": "int", "number": "float", "boolean": "bool", "array": "list", "object": "dict"}
    return ast.literal_eval(_value(name, kinds.get(str(schema.get("type")), "str"), asked, position))


def _wanted(tools: dict[str, tuple[str, str]], opening: str, asked: str) -> str | None:
    """The tool to call: one of the required ones, or one that the question speaks of."""
    if "Finish with a call of" in opening:
        return next(iter(tools), None)
    if "has been done for this message already" in asked:
        return None
    now = asked.rpartition("The message to answer now:")[2].lower()
    return next((name for name in tools if any(len(w) > 3 and w in now for w in name.split("_"))), None)


def _fields(names: str, words: str, asked: str) -> str:
    parts = []
    for name in _FIELD.findall(names):
        kind = re.search(rf"\b{name}: (.+?)(?:;|$)", words)
        parts.append(f"{name}={_value(name, kind.group(1) if kind else 'str', asked, 0)}")
    return ", ".join(parts)


def _arguments(names: str, doc: str, asked: str) -> str:
    words = doc.partition("Arguments: ")[2]
    required = [name.strip() for name in names.split(",") if name.strip() and not name.strip().endswith("..")]
    parts = []
    for position, name in enumerate(required):
        kind = re.search(rf"(?:^|; ){name}: (\S+)", words)
        parts.append(f"{name}={_value(name, kind.group(1) if kind else 'str', asked, position)}")
    return ", ".join(parts)


def _value(name: str, kind: str, asked: str, position: int) -> str:
    """Python text of a value of a type, from the question if it has one of that type."""
    first = re.split(r"[ ;]", kind)[0]
    if first == "int":
        numbers = re.findall(r"\d+", asked)
        return numbers[min(position, len(numbers) - 1)] if numbers else _MADE_UP["int"]
    if first in _MADE_UP:
        return _MADE_UP[first]
    quoted = re.findall(r"'([^']+)'", asked)
    if quoted and position == 0:
        return repr(quoted[0])
    literal = re.match(r"one of ('[^']*')", kind)
    return ast.unparse(ast.Constant(ast.literal_eval(literal.group(1)))) if literal else repr(f"a good {name}")
