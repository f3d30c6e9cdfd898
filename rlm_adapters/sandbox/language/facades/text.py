"""Text and data formats."""

from __future__ import annotations

import ast
import csv
import difflib
import functools
import html.parser
import json
import pprint
import re
import shlex
import string
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facade import pick
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.language.hostclass import checked_class

DictReader: Final = checked_class(csv.DictReader)
DictWriter: Final = checked_class(csv.DictWriter)
Sniffer: Final = checked_class(csv.Sniffer)
SequenceMatcher: Final = checked_class(difflib.SequenceMatcher)
Differ: Final = checked_class(difflib.Differ)
TextWrapper: Final = checked_class(textwrap.TextWrapper)
Template: Final = checked_class(string.Template)
JSONEncoder: Final = checked_class(json.JSONEncoder)
JSONDecoder: Final = checked_class(json.JSONDecoder)
HTMLParser: Final = checked_class(html.parser.HTMLParser)
NodeVisitor: Final = checked_class(ast.NodeVisitor)
PrettyPrinter: Final = checked_class(pprint.PrettyPrinter)


def _re_functions() -> dict[str, Callable[..., Any]]:
    """The functions of ``re`` without the flag DEBUG, which prints to the real standard output."""

    def clean(flags: Any) -> int:
        return int(flags) & ~re.DEBUG

    def compile_pattern(pattern: Any, flags: Any = 0) -> Any:
        return re.compile(pattern, clean(flags) if flags else 0)

    def split(pattern: Any, string: Any, maxsplit: int = 0, flags: Any = 0) -> list[Any]:
        return re.split(pattern, string, maxsplit=maxsplit, flags=clean(flags) if flags else 0)

    def on_text(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(pattern: Any, string: Any, flags: Any = 0) -> Any:
            return function(pattern, string, clean(flags) if flags else 0)

        return call

    def substituting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(pattern: Any, repl: Any, string: Any, count: int = 0, flags: Any = 0) -> Any:
            return function(pattern, repl, string, count=count, flags=clean(flags) if flags else 0)

        return call

    functions: dict[str, Any] = {
        "compile": compile_pattern,
        "split": split,
        "sub": substituting(re.sub),
        "subn": substituting(re.subn),
    }
    for name in ("search", "match", "fullmatch", "findall", "finditer"):
        functions[name] = on_text(getattr(re, name))
    for name, function in functions.items():
        function.__name__ = function.__qualname__ = name
        function.__doc__ = getattr(re, name).__doc__
    return functions


_RE_FUNCTIONS: Final = _re_functions()


def _re(_: Environment) -> Mapping[str, object]:
    names = """escape error PatternError Pattern Match
        IGNORECASE I MULTILINE M DOTALL S VERBOSE X ASCII A UNICODE U LOCALE L RegexFlag NOFLAG"""
    return {**pick("re", names), **_RE_FUNCTIONS}


def _json(environment: Environment) -> Mapping[str, object]:
    for cls in (JSONEncoder, JSONDecoder):
        environment.classes.allow(cls, base=True)
    return {
        **pick("json", "loads dumps load dump JSONDecodeError"),
        "JSONEncoder": JSONEncoder,
        "JSONDecoder": JSONDecoder,
    }


def _csv(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(DictReader, writable="fieldnames restkey restval")
    return {
        **pick(
            "csv",
            """reader writer QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC QUOTE_STRINGS QUOTE_NOTNULL Error
            excel excel_tab unix_dialect field_size_limit""",
        ),
        "DictReader": DictReader,
        "DictWriter": DictWriter,
        "Sniffer": Sniffer,
    }


def _ast(environment: Environment) -> Mapping[str, object]:
    # No NodeTransformer: it sets attributes, and cells may do that only on their own objects.
    environment.classes.allow(NodeVisitor, base=True)
    nodes = {
        name: value
        for name, value in vars(ast).items()
        if isinstance(value, type) and issubclass(value, ast.AST) and type(value) is type
    }

    def iter_fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
        """The fields of a node, read by the names in its class: a node itself can hold a different ``_fields``."""
        if not isinstance(node, ast.AST):
            raise TypeError(f"expected an AST node, not {type(node).__name__!r}")
        for name in type(node)._fields:
            if name in node.__dict__:
                yield name, node.__dict__[name]

    def iter_child_nodes(node: ast.AST) -> Iterator[ast.AST]:
        """The direct children of a node."""
        for _, value in iter_fields(node):
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.AST):
                    yield item

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        """A node and all below it."""
        todo = [node]
        for item in todo:
            todo.extend(iter_child_nodes(item))
            yield item

    def on_plain_tree(function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that reads the fields of a tree by the names that the nodes themselves give."""

        @functools.wraps(function)
        def checked(tree: Any, *args: Any, **kwargs: Any) -> Any:
            nodes = walk(tree) if isinstance(tree, ast.AST) else ()
            if any("_fields" in node.__dict__ or "_attributes" in node.__dict__ for node in nodes):
                raise TypeError("the nodes of the tree have fields of their own")
            return function(tree, *args, **kwargs)

        return checked

    tree_functions = pick("ast", "literal_eval dump unparse get_docstring")
    functions = {name: on_plain_tree(function) for name, function in tree_functions.items()}
    functions.update(pick("ast", "parse get_source_segment"))
    own = {"iter_fields": iter_fields, "iter_child_nodes": iter_child_nodes, "walk": walk}
    return {**nodes, **functions, **own, "NodeVisitor": NodeVisitor}


def _textwrap(environment: Environment) -> Mapping[str, object]:
    options = """width initial_indent subsequent_indent expand_tabs replace_whitespace fix_sentence_endings
        break_long_words drop_whitespace break_on_hyphens tabsize max_lines placeholder"""
    environment.classes.allow(TextWrapper, writable=options)
    return {**pick("textwrap", "wrap fill shorten dedent indent"), "TextWrapper": TextWrapper}


def _html_parser(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(HTMLParser, base=True)
    return {"HTMLParser": HTMLParser}


def _pprint(environment: Environment) -> Mapping[str, object]:
    output = environment.output

    def pretty(object: Any, stream: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: A002 - as in pprint
        """Print ``object`` prettily."""
        (output if stream is None else stream).write(pprint.pformat(object, *args, **kwargs) + "\n")

    def pp(object: Any, *args: Any, sort_dicts: bool = False, **kwargs: Any) -> None:  # noqa: A002
        """Print ``object`` prettily, dictionaries in their own order."""
        pretty(object, *args, sort_dicts=sort_dicts, **kwargs)

    def make_printer(*args: Any, stream: Any = None, **kwargs: Any) -> pprint.PrettyPrinter:
        """A printer that prints to the cell's output."""
        options: dict[str, Any] = {**kwargs, "stream": output if stream is None else stream}
        return PrettyPrinter(*args, **options)

    return {"pformat": pprint.pformat, "pprint": pretty, "pp": pp, "PrettyPrinter": make_printer}


def _shlex_split(s: str, comments: bool = False, posix: bool = True) -> list[str]:
    """Split a command line; the real function reads standard input when it is given None."""
    if not isinstance(s, str):
        raise TypeError(f"expected str, not {type(s).__name__}")
    return shlex.split(s, comments, posix)


MODULES: Final[dict[str, Builder]] = {
    "re": _re,
    "json": _json,
    "csv": _csv,
    "ast": _ast,
    "pprint": _pprint,
    "string": lambda _: {
        **pick(
            "string",
            "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation printable "
            "whitespace capwords",
        ),
        "Template": Template,
    },
    "textwrap": _textwrap,
    "difflib": lambda _: {
        **pick("difflib", "get_close_matches ndiff unified_diff context_diff restore IS_CHARACTER_JUNK IS_LINE_JUNK"),
        "SequenceMatcher": SequenceMatcher,
        "Differ": Differ,
    },
    "unicodedata": lambda _: pick(
        "unicodedata",
        "normalize is_normalized category name lookup combining bidirectional numeric digit decimal mirrored "
        "east_asian_width decomposition unidata_version",
    ),
    "html": lambda _: pick("html", "escape unescape"),
    "html.parser": _html_parser,
    "urllib": lambda _: {},
    "urllib.parse": lambda _: pick(
        "urllib.parse",
        "urlparse urlsplit urlunparse urlunsplit urljoin urldefrag urlencode parse_qs parse_qsl quote quote_plus "
        "quote_from_bytes unquote unquote_plus unquote_to_bytes",
    ),
    "hashlib": lambda _: pick(
        "hashlib", "md5 sha1 sha224 sha256 sha384 sha512 sha3_224 sha3_256 sha3_384 sha3_512 blake2b blake2s new"
    ),
    "hmac": lambda _: pick("hmac", "digest compare_digest"),
    "base64": lambda _: pick(
        "base64",
        "b64encode b64decode standard_b64encode standard_b64decode urlsafe_b64encode urlsafe_b64decode b32encode "
        "b32decode b16encode b16decode b85encode b85decode a85encode a85decode",
    ),
    "binascii": lambda _: pick("binascii", "hexlify unhexlify crc32 b2a_base64 a2b_base64 Error"),
    "struct": lambda _: pick("struct", "pack unpack unpack_from iter_unpack calcsize error"),
    "shlex": lambda _: {**pick("shlex", "quote join"), "split": _shlex_split},
    "keyword": lambda _: pick("keyword", "iskeyword kwlist issoftkeyword"),
}
