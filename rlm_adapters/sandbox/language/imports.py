"""The import statement in cells."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from rlm_adapters.sandbox.language.classes import Classes
from rlm_adapters.sandbox.language.facade import Facade, names_in
from rlm_adapters.sandbox.language.facades import BUILDERS, Environment

_HINTS: Final = {
    name: hint
    for names, hint in (
        (
            "requests httpx aiohttp urllib3 urllib.request http socket ssl ftplib smtplib selenium websockets",
            "there is no network here; the input is in variables such as `context`",
        ),
        ("subprocess multiprocessing pty signal", "programs cannot be started here; write it in Python"),
        ("openai anthropic langchain litellm dspy transformers google ollama", "call llm_query(prompt) instead"),
        ("pandas numpy scipy sklearn polars matplotlib", "use plain Python"),
        ("tiktoken", "estimate 4 characters per token"),
        ("pickle marshal shelve dill", "use json"),
        ("sqlite3 duckdb", "use dictionaries and sorted()"),
        ("ctypes importlib inspect builtins code runpy", "reflection is not available here"),
        ("fitz pymupdf pdfplumber pdfminer", "use pypdf.PdfReader"),
        ("bs4 lxml", "use html.parser, xml.etree.ElementTree or re"),
    )
    for name in names.split()
}


class Modules:
    """Makes the modules of one session, each when it is first imported.

    Args:
        environment: returns the parts of the session; called when the first module is made.
        classes: registers the classes that modules export.
        allowed: real modules that the user has allowed.
    """

    def __init__(self, environment: Callable[[], Environment], classes: Classes, allowed: Collection[str] = ()) -> None:
        self._environment = environment
        self._classes = classes
        self._allowed = frozenset(allowed)
        self._made: dict[str, Facade] = {}

    def load(self, name: str) -> Facade:
        """Return the facade of a module, which contains the facades of its submodules.

        Raises:
            ModuleNotFoundError: cells cannot import it; the message says what to use instead.
        """
        facade = self._made.get(name)
        if facade is None:
            if name not in BUILDERS:
                raise ModuleNotFoundError(_explanation(name), name=name)
            members = dict(BUILDERS[name](self._environment()))
            for value in members.values():
                if isinstance(value, type):
                    self._classes.allow(value)
            members.update(self._submodules(name, members))
            facade = self._made.setdefault(name, Facade(name, members))
        return facade

    def _submodules(self, name: str, members: Mapping[str, object]) -> dict[str, Facade]:
        prefix = name + "."
        children = [full for full in BUILDERS if full.startswith(prefix) and "." not in full[len(prefix) :]]
        return {full[len(prefix) :]: self.load(full) for full in children if full[len(prefix) :] not in members}

    def import_statement(
        self,
        name: str,
        _globals: Mapping[str, object] | None = None,
        _locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """``__import__`` for cells.

        C code uses it too (``datetime.strptime`` imports ``_strptime``). C code reads the module from ``sys.modules``
        and ignores what this function returns, so None is enough for a module that no cell can name.
        """
        if level:
            raise ImportError("relative imports are not available here")
        if _top(name) in self._allowed:
            return importlib.__import__(name, None, None, fromlist or (), 0)
        own = _own_module(name, _globals)
        if own is not None:
            return self._own_names(name, own, fromlist) if fromlist else own
        if name[:1] == "_" and name != "__future__":
            if name in sys.modules:
                return None
            raise ModuleNotFoundError(_explanation(name), name=name)
        facade = self.load(name)
        for wanted in fromlist or ():
            if wanted not in names_in(facade):
                raise ImportError(f"cannot import name {wanted!r} from {name!r} here", name=name)
        return facade if fromlist else self.load(_top(name))

    def _own_names(self, name: str, own: type, wanted: Sequence[str]) -> Facade:
        """Read the wanted attributes with the guard, as a cell would: the import statement itself has no guard."""
        read = self._environment().guards.getattr
        try:
            return Facade(name, {one: read(own, one) for one in wanted})
        except AttributeError as error:
            raise ImportError(f"cannot import a name from {name!r} here: {error}", name=name) from None


def _own_module(name: str, namespace: Mapping[str, object] | None) -> type | None:
    """A class of this name in the session. It is used as a module where there is no facade of that name."""
    if not namespace or name in BUILDERS:
        return None
    found = namespace.get(name)
    return found if isinstance(found, type) and found.__name__ == name else None


def _explanation(name: str) -> str:
    hint = _HINTS.get(name) or _HINTS.get(_top(name))
    return f"No module named {name!r} here: {hint or 'most of the text and data modules of Python are there'}"


def _top(name: str) -> str:
    return name.partition(".")[0]
