"""``xml.etree.ElementTree`` for text and for files of the workspace."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facade import pick
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment


class Tree:
    """``ElementTree``: a root element, read from and written to files of the workspace."""

    def __init__(self, environment: Environment, root: ET.Element | None) -> None:
        self._environment = environment
        self._root = root

    def getroot(self) -> ET.Element | None:
        """The root element."""
        return _root_of(self)

    def iter(self, tag: str | None = None) -> Iterator[ET.Element]:
        """All elements, or those with a tag."""
        return _root_of(self).iter(tag)

    def find(self, path: str, namespaces: dict[str, str] | None = None) -> ET.Element | None:
        """The first element that matches."""
        return _root_of(self).find(path, namespaces)

    def findall(self, path: str, namespaces: dict[str, str] | None = None) -> list[ET.Element]:
        """All elements that match."""
        return _root_of(self).findall(path, namespaces)

    def iterfind(self, path: str, namespaces: dict[str, str] | None = None) -> Iterator[ET.Element]:
        """All elements that match, one by one."""
        return iter(self.findall(path, namespaces))

    def findtext(self, path: str, default: Any = None, namespaces: dict[str, str] | None = None) -> Any:
        """The text of the first element that matches."""
        return _root_of(self).findtext(path, default, namespaces)

    def write(self, file: Any, encoding: str = "us-ascii", *, xml_declaration: bool | None = None) -> None:
        """Write the document to a file."""
        root = _root_of(self)
        text = ET.tostring(root, encoding, xml_declaration=xml_declaration)
        if hasattr(file, "write"):
            file.write(text)
            return
        with self._environment.files.open(file, "w" if isinstance(text, str) else "wb") as target:
            target.write(text)


def _root_of(tree: Tree) -> ET.Element:
    if not isinstance(tree, Tree):
        raise TypeError(f"expected an ElementTree, not {type(tree).__name__!r}")
    root = tree._root  # noqa: SLF001 - of this module
    if root is None:
        raise ValueError("the tree is empty")
    return root


def _element_tree(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(ET.Element, writable="tag text tail attrib")

    def read(source: Any) -> Any:
        if hasattr(source, "read"):
            return source.read()
        with environment.files.open(source, "rb") as file:
            return file.read()

    def element_tree(element: Any = None, file: Any = None) -> Tree:
        """A tree from a root element or from a file."""
        return Tree(environment, ET.fromstring(read(file)) if file is not None else element)  # noqa: S314

    def parse(source: Any, parser: None = None) -> Tree:
        """Read a document from a file."""
        del parser
        return Tree(environment, ET.fromstring(read(source)))  # noqa: S314 - the worker bounds memory and time

    def indent(tree: Any, space: str = "  ", level: int = 0) -> None:
        """Add white space."""
        element = _root_of(tree) if isinstance(tree, Tree) else tree
        if not isinstance(element, ET.Element):
            raise TypeError(f"expected an Element, not {type(tree).__name__!r}")
        ET.indent(element, space, level)

    def iterparse(source: Any, events: Any = ("end",), parser: None = None) -> Iterator[tuple[str, Any]]:
        """Read a document piece by piece."""
        del parser
        reader: Any = ET.XMLPullParser(events)
        reader.feed(read(source))
        reader.close()
        yield from reader.read_events()

    return {
        **pick("xml.etree.ElementTree", "Element SubElement Comment fromstring fromstringlist XML tostring QName"),
        "ParseError": ET.ParseError,
        "ElementTree": element_tree,
        "parse": parse,
        "iterparse": iterparse,
        "indent": indent,
    }


MODULES: Final[dict[str, Builder]] = {
    "xml": lambda _: {},
    "xml.etree": lambda _: {},
    "xml.etree.ElementTree": _element_tree,
}
