# ruff: noqa: RUF001 - the characters that models write are the subject
"""Tool calls in text: the forms in which models call a "python" tool, although no tool was offered.

JSON inside tags or tokens (Hermes, Qwen, Mistral, DeepSeek, Kimi, Llama, OpenAI), XML parameters (Qwen-Coder,
Claude, MiniMax), key/value tags (GLM). A call of a REPL function becomes a cell with this call.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from rlm_adapters.replies.syntax import Syntax, acts, quiet, undisturbed

_PYTHON_TOOL: Final = re.compile(r"python|repl|exec|interpreter|jupyter|run_?code|^code|cell|^run$", re.IGNORECASE)
_CODE_KEYS: Final = ("code", "python_code", "source_code", "python", "source", "script", "cell", "program")
_ARGUMENT_KEYS: Final = ("arguments", "parameters", "args", "input", "action_input", "tool_input", "params", "kwargs")
_NAME_KEYS: Final = ("name", "tool", "tool_name", "recipient_name", "action", "function", "recipient")
_LIST_KEYS: Final = ("tool_uses", "tool_calls", "calls", "actions")

_OPEN: Final = re.compile(
    r"<(?P<xml>(?:\w+:|｜DSML｜)?(?:tool_calls?|function_calls?|toolcall|invoke|function))(?=[\s>=])[^>\n]*>"
    r"|(?P<token>\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_calls?(?:_section)?(?:_begin)?\|>|<｜tool▁calls?▁begin｜>"
    r"|<\|START_ACTION\|>|<\|action_start\|>)",
    re.IGNORECASE,
)
_CLOSES: Final = {
    "[tool_calls]": (),
    "<|python_tag|>": (),
    "<|tool_call|>": ("<|/tool_call|>",),
    "<|tool_calls|>": ("<|/tool_calls|>",),
    "<|tool_calls_section_begin|>": ("<|tool_calls_section_end|>",),
    "<|tool_call_begin|>": ("<|tool_call_end|>",),
    "<｜tool▁calls▁begin｜>": ("<｜tool▁calls▁end｜>",),
    "<｜tool▁call▁begin｜>": ("<｜tool▁call▁end｜>",),
    "<|start_action|>": ("<|END_ACTION|>",),
    "<|action_start|>": ("<|action_end|>",),
}
_PARAMETER: Final = re.compile(
    r"<(?P<tag>(?:\w+:|｜DSML｜)?parameter)(?:=|[ \t]+name=)[\"']?(?P<name>\w+)[\"']?[^>\n]*>(?P<value>.*?)"
    r"(?:</(?P=tag)>|(?=</(?:\w+:|｜DSML｜)?(?:invoke|function|tool_call)>)|\Z)"
    r"|<arg_key>\s*(?P<key>\w+)\s*</arg_key>\s*<arg_value>(?P<argument>.*?)(?:</arg_value>|\Z)",
    re.DOTALL,
)
_INVOCATION: Final = re.compile(
    r"<(?:\w+:|｜DSML｜)?(?:function=|invoke[ \t]+name=)[\"']?(?P<name>[\w.]+)[\"']?[^>\n]*>"
    r"|<tool_call>\s*(?P<glm>[\w.]+)",
)
_NAME_BEFORE: Final = re.compile(
    r"([A-Za-z_][\w.]*)(?::\d+)?\s*(?:\[ARGS\]|\[CALL_ID\]\w*\[ARGS\]|<｜tool▁sep｜>|<\|tool_call_argument_begin\|>"
    r"|<\|tool_sep\|>|>|```(?:json)?|\s)*$"
)
_JSON_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:(?P<closed>")|\\?\Z)|[{}\[\]]', re.DOTALL)
_BRACKET: Final = re.compile(r"[{}\[\]]")
_CODE_KEY: Final = re.compile(r'"code"\s*+:\s*+"')
_CLOSING_TAG: Final = re.compile(r"</\w++>\Z")
_MAX_BEFORE_CODE: Final = 4_000
_MAX_VALUES: Final = 200


class ToolCalls:
    """Turns calls into cells. ``tools`` are the functions of the REPL that may be called by name."""

    def __init__(self, tools: Collection[str], syntax: Syntax) -> None:
        self._tools = frozenset(tools)
        self._syntax = syntax

    def opens(self, text: str, start: int, end: int) -> re.Match[str] | None:
        """The first opening of a call between the offsets, unless it is in inline code."""
        found = _OPEN.search(text, start, end)
        if found is None or text.count("`", start, found.start()) % 2 == 1:
            return None
        return found

    def end_of(self, text: str, opening: re.Match[str]) -> tuple[int, int]:
        """Where the call's body ends, and where the text continues."""
        closes = (f"</{opening['xml']}>",) if opening["xml"] else _CLOSES.get(opening[0].lower(), ())
        for close in closes:
            at = text.find(close, opening.end())
            if at >= 0:
                return at, at + len(close)
        return len(text), len(text)

    def in_region(self, region: str) -> list[str]:
        """Cells of one region of calls, its opening mark included."""
        if _PARAMETER.search(region):
            return self._from_parameters(region)
        opening = _OPEN.match(region)
        cells = self.in_json(region, opening.end() if opening and opening["token"] else 0)
        if cells:
            return cells
        body = _OPEN.sub("", region, count=1).strip() if not region.startswith("<|action_start") else region
        body = re.sub(r"^<\|(?:interpreter|plugin)\|>\s*", "", body.removeprefix("<|action_start|>"))
        return self._raw(without_fence(body.strip()))

    def is_whole(self, region: str) -> bool:
        """Whether the region has a readable call, so that only its name is unknown."""
        start = re.compile(r"[{]").search(region)
        return _PARAMETER.search(region) is not None or (start is not None and bool(_decode(region, start.start())[0]))

    def in_json(self, text: str, position: int = 0, *, line_starts_only: bool = False) -> list[str]:
        """Cells of the JSON values in a text after the offset, in order."""
        cells: list[str] = []
        for _ in range(_MAX_VALUES):
            found = re.compile(r"^[ \t]*[\[{]" if line_starts_only else r"[\[{]", re.MULTILINE).search(text, position)
            if found is None:
                break
            start = found.end() - 1
            value, position = _decode(text, start)
            if value is None:
                position = max(position, start + 1)
                continue
            name = _NAME_BEFORE.search(text[max(0, start - 200) : start])
            cells += self.of(value, name[1] if name and not line_starts_only else "")
        return cells

    def of(self, value: Any, name: str = "") -> list[str]:
        """Cells of a decoded call, or of a list of them."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [cell for item in value[:_MAX_VALUES] for cell in self.of(item, name)]
        if not isinstance(value, Mapping):
            return []
        for key in _LIST_KEYS:
            if isinstance(value.get(key), list):
                return self.of(value[key])
        function = value.get("function")
        if isinstance(function, Mapping):
            return self.of(function)
        named = next((value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)), "")
        arguments = next((value[key] for key in _ARGUMENT_KEYS if key in value), None)
        if named and arguments is not None:
            return self.named(named, arguments)
        code = _code_of(value)
        if code is not None:
            return [code] if code.strip() else []
        return self.named(name, value) if name else []

    def named(self, name: str, arguments: Any) -> list[str]:
        """Cells of a call given by name and arguments (a mapping, its JSON, or plain code)."""
        if isinstance(arguments, str):
            decoded, _ = _decode(arguments, len(arguments) - len(arguments.lstrip()))
            if not isinstance(decoded, Mapping):
                return self._raw(without_fence(arguments)) if _PYTHON_TOOL.search(name) else []
            arguments = decoded
        if not isinstance(arguments, Mapping):
            return []
        base = name.strip().rpartition(".")[2]
        if base in self._tools:
            return [_written_out(base, arguments)]
        code = _code_of(arguments)
        if code is None and _PYTHON_TOOL.search(name) and len(arguments) == 1:
            only = next(iter(arguments.values()))
            code = only if isinstance(only, str) else None
        return [code] if code and code.strip() else []

    def _from_parameters(self, region: str) -> list[str]:
        cells: list[str] = []
        invocations = list(_INVOCATION.finditer(region))[:_MAX_VALUES]
        bounds = [m.start() for m in invocations] + [len(region)]
        for invocation, end in zip(invocations, bounds[1:], strict=True):
            arguments: dict[str, Any] = {}
            for parameter in _PARAMETER.finditer(region, invocation.end() - 1, end):
                raw = parameter["value"] if parameter["name"] else parameter["argument"]
                arguments[parameter["name"] or parameter["key"]] = raw.strip("\n")
            cells += self.named(invocation["name"] or invocation["glm"], arguments)
        return cells

    def _raw(self, code: str) -> list[str]:
        """The code, without paragraphs of prose after it."""
        paragraphs = re.split(r"(\n[ \t]*\n)", code.strip("\n"))
        for end in range(len(paragraphs), max(0, len(paragraphs) - 12), -2):
            attempt = "".join(paragraphs[:end])
            tree = self._syntax.tree(attempt)
            if tree is not None and acts(tree):
                return [attempt]
        return []


def whole_json(text: str) -> Any:
    """The value if the whole text is one JSON object or list (read leniently), else None."""
    stripped = text.strip()
    if stripped[:1] not in ("{", "["):
        return None
    value, end = _decode(stripped, 0)
    return value if value is not None and not stripped[end:].strip(" \n;,") else None


def without_fence(code: str) -> str:
    """The code without a fence around it."""
    stripped = code.strip()
    fence = re.match(r"(`{3,}+|~{3,}+)[^\n]*+\n", stripped)
    if fence is None:
        return code
    return stripped[fence.end() :].rstrip().removesuffix(fence[1]).rstrip("\n")


def _code_of(value: Mapping[Any, Any]) -> str | None:
    for key in _CODE_KEYS:
        code = value.get(key)
        if isinstance(code, list) and all(isinstance(line, str) for line in code):
            code = "\n".join(code)
        if isinstance(code, str):
            # an under-escaped \b of a regular expression; in code it is never a backspace
            return without_fence(code.replace("\x08", "\\b"))
    return None


def _written_out(function: str, arguments: Mapping[Any, Any]) -> str:
    if function in ("FINAL", "FINAL_VAR") and len(arguments) == 1:
        return f"{function}({next(iter(arguments.values()))!r})"
    if not all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in arguments):
        return f"{function}(**{dict(arguments)!r})"
    return f"{function}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _decode(text: str, start: int) -> tuple[Any, int]:
    r"""The JSON value that begins at the offset and where it ends; (None, end) when it cannot be read.

    Lenient: raw newlines in strings, escapes that JSON does not know (``\d``), Python literals, a code string with
    unescaped quote marks.
    """
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        pass
    else:
        return (value, end) if isinstance(value, dict | list) else (None, end)
    end = _balanced(text, start)
    segment = text[start:end]
    if len(segment) > 400_000:
        return None, end
    doubled = re.sub(
        r"\\(u[0-9a-fA-F]{4}|.)",
        lambda m: m[0] if m[1] in '"\\/bfnrt' or len(m[1]) > 1 else "\\" + m[0],
        segment,
        flags=re.DOTALL,
    )
    readers: tuple[Callable[[], Any], ...] = (
        lambda: json.loads(doubled, strict=False),
        lambda: undisturbed(ast.literal_eval, quiet(segment)),
    )
    for read in readers:
        try:
            value = read()
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return (value, end) if isinstance(value, dict | list) else (None, end)
    raw = _unescaped_code(text, start)
    if raw is not None:
        code = re.sub(r'\\(["\\nt])', lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), raw)
        return {"code": code}, len(text)
    return None, end


def _unescaped_code(text: str, start: int) -> str | None:
    """The value of ``code`` in an object at the end of the text, if quote marks in the value were not escaped."""
    opening = re.compile(r"\[?\s*+\{").match(text, start)
    key = _CODE_KEY.search(text, opening.end(), opening.end() + _MAX_BEFORE_CODE + 100) if opening else None
    if key is None:
        return None
    rest = _CLOSING_TAG.sub("", text[key.end() :].rstrip()).rstrip().removesuffix("]").rstrip()
    value = rest.rstrip("}").rstrip()
    if not rest.endswith("}") or not value.endswith('"'):
        return None
    return re.split(r'"\s*+,\s*+"\w++"\s*+:', value[:-1], maxsplit=1)[0]


def _balanced(text: str, start: int) -> int:
    """Where the bracket at the offset is closed; the end of the text if it is not closed."""
    depth, position, token = 0, start, _JSON_TOKEN
    while found := token.search(text, position):
        position = found.end()
        if found[0] in ("{", "["):
            depth += 1
        elif found[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return position
        elif not found["closed"]:  # nor is any later string, so from here on only brackets count
            token, position = _BRACKET, found.start() + 1
    return len(text)
