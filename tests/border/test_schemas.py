"""What a cell gives as ``returns=`` is data: it names no code, no file and no address, and takes no time without end."""

import contextlib
import http.server
import json
import threading
import warnings

import pytest

from rlm_adapters import InputError, create_rlm_graph
from rlm_adapters.values.answers import CellSpec, InvalidAnswerError, OutputSpec
from tests.server import cell


@pytest.fixture
def asked(model_server, chat, sandbox):
    """Ask a sub-LM in a cell, with ``returns=``; gives what the cell saw."""

    def ask(returns, reply='"reply"'):
        code = f"try:\n    a = llm_query('p', returns={returns!r})\nexcept Exception as e:\n    a = str(e)\nSUBMIT(a)"
        model_server.script("root", [cell(code)])
        model_server.script("sub", lambda messages, request: reply)
        return create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox).invoke({"query": "q"})["answer"]

    return ask


@pytest.mark.parametrize(
    "code",
    [
        "__import__('pathlib').Path({path!r}).touch()",
        "list[__import__('pathlib').Path({path!r}).touch()]",
        "(lambda: __import__('os').close(__import__('os').open({path!r}, 65)))()",
        "[open({path!r}, 'w')]",
        "int if open({path!r}, 'w') else str",
    ],
)
def test_text_is_no_type_and_is_not_evaluated(code, asked, tmp_path):
    target = tmp_path / "written by the cell"
    code = code.format(path=str(target))
    assert "give a JSON schema as a dict" in asked(code)
    assert not target.exists()
    with pytest.raises(InputError, match="give the type itself"):
        OutputSpec.of(code)
    assert not target.exists()


@pytest.fixture
def address():
    """A server of the host's network, and the paths that it was asked for."""
    paths = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            body = json.dumps({"enum": ["the secret"]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/internal.json", paths
    server.shutdown()
    server.server_close()


SHAPES = {
    "at the top": lambda to: {"$ref": to},
    "in items": lambda to: {"type": "array", "items": {"$ref": to}},
    "in anyOf": lambda to: {"anyOf": [{"type": "integer"}, {"$ref": to}]},
    "in a definition": lambda to: {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": to}}},
    "in a value that is referred to": lambda to: {"$ref": "#/const", "const": {"$ref": to}},
    "dynamic": lambda to: {"$dynamicRef": to},
    "recursive": lambda to: {"$recursiveRef": to, "$ref": to},
    "relative to an id": lambda to: {"$id": to, "$ref": to.rpartition("/")[2]},
    "as the metaschema": lambda to: {"$schema": to, "type": "string"},
    "in an old draft": lambda to: {"$schema": "http://json-schema.org/draft-04/schema#", "$ref": to},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_address_is_asked(shape, asked, address):
    url, paths = address
    answer = asked(shape(url))
    assert "the secret" not in str(answer)
    assert paths == []


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_file_is_read(shape, asked, tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps({"enum": ["the secret"]}))
    assert "the secret" not in str(asked(shape(f"file://{tmp_path}/secret.json")))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_nothing_is_fetched_for_a_schema_of_the_caller_s_either(shape, address):
    url, paths = address
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a $schema that jsonschema does not know
        with contextlib.suppress(InputError, InvalidAnswerError):
            OutputSpec.of(shape(url)).validate(["x"])
    assert paths == []


def doubling(depth, keyword="allOf"):
    definitions = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{depth}": {"type": "string"}}}


HOGS = {
    "a pattern that backtracks": ({"type": "string", "pattern": "^(a+)+$"}, "a" * 40 + "!"),
    "patterns of properties": ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 40 + "!": 1}),
    "a pattern in a value that is referred to": (
        {"$ref": "#/const", "const": {"pattern": "^(a+)+$"}, "default": 1},
        "a" * 40 + "!",
    ),
    "additional properties beside patterns": (
        {"properties": {"x": {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}}},
        {"x": {"a" * 40 + "!": 1}},
    ),
    "names of properties": ({"propertyNames": {"pattern": "^(a+)+$"}}, {"a" * 40 + "!": 1}),
    "references that double": (doubling(40), "text"),
    "alternatives that double": (doubling(40, "anyOf"), 1),
    "exclusive alternatives that double": (doubling(40, "oneOf"), "text"),
    "a circle": ({"$ref": "#"}, "text"),
    "two circles": ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "text"),
    "unique items": ({"uniqueItems": True}, [{"a": [i]} for i in range(20_000)]),
    "unevaluated properties that double": ({**doubling(40), "unevaluatedProperties": False}, {"a": 1}),
    "unevaluated items that double": ({**doubling(40), "unevaluatedItems": False}, [1]),
    "another dialect inside": (
        {"properties": {"x": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "^(a+)+$"}}},
        {"x": "a" * 40 + "!"},
    ),
    "deep nesting": (json.loads('{"items":' * 900 + "{}" + "}" * 900), [1]),
    "a long schema": ({"enum": ["x" * 30_000]}, "x"),
    "no schema": ({"type": "strin"}, "x"),
    "keywords of the wrong types": ({"items": 7, "properties": [], "required": "a"}, "x"),
    "text": ("int", 1),
    "a list": ([{"type": "integer"}], 1),
    "a number": (7, 1),
}


@pytest.mark.parametrize(("schema", "value"), HOGS.values(), ids=HOGS)
def test_a_cell_s_schema_cannot_hang_the_host(schema, value):
    with contextlib.suppress(InputError, InvalidAnswerError):
        CellSpec.of(schema).validate(value)  # ends: unbounded, most of these take from minutes to years


def test_what_honest_cells_ask_is_checked(asked):
    schema = {
        "$defs": {"name": {"type": "string", "minLength": 2}},
        "type": "array",
        "items": {"$ref": "#/$defs/name"},
        "maxItems": 3,
    }
    assert asked(schema, '["ab", "cd"]') == ["ab", "cd"]
    assert "twice" in asked(schema, '["a"]')
    assert asked({"type": "object", "properties": {"pattern": {"type": "integer"}}}, '{"pattern": 1}') == {"pattern": 1}


def test_a_schema_that_points_outside_is_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"nothing is fetched: put it into the schema under '\$defs'"):
        OutputSpec.of({"$ref": "other.json"}).validate(1)
    with pytest.raises(InputError, match=r"define it under '\$defs'"):
        CellSpec.of({"$ref": "other.json"})
