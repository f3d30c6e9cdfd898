"""Find the files of a directory that Git does not ignore."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pathspec import GitIgnoreSpec

_NAME: Final = ".gitignore"
_ANY_FOLDER: Final = GitIgnoreSpec.from_lines(["*/"]).patterns[0].regex.pattern  # type: ignore[union-attr]
"""The regular expression of pathspec for ``*/``: a slash at any place."""


def visible_files(root: Path, note: Callable[[str], None]) -> Iterator[Path]:
    """Regular files below a directory in a stable order.

    Hidden files are left out, and files that a ``.gitignore`` there, or above it in the same repository, excludes.
    Links to directories are not followed.

    Args:
        root: the directory.
        note: called with messages about folders and ``.gitignore`` files that cannot be read.
    """
    rules = _Rules(root, note)

    def failed(error: OSError) -> None:
        note(f"skipped: {error.filename}: {error.strerror}")

    for folder, subfolders, names in os.walk(root, onerror=failed):
        here = Path(folder)
        rules.enter(here)
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and not rules.ignores(here / name, folder=True)
        )
        for name in sorted(names):
            path = here / name
            if not name.startswith(".") and path.is_file() and not rules.ignores(path):
                yield path


class _Rules:
    """The ``.gitignore`` files of a tree, each for its own folder.

    Args:
        root: of the tree. If the rules above exclude the whole tree, they are not used, because the user asked for it.
        note: called with messages about files that cannot be read.
    """

    def __init__(self, root: Path, note: Callable[[str], None]) -> None:
        self._note = note
        self._specs: dict[Path, GitIgnoreSpec] = {}
        top = root.absolute()
        above = _above(top)
        for folder in reversed(above):
            self.enter(folder)
        if any(self.ignores(path, folder=True) for path in (top, *above[:-1])):
            self._specs.clear()

    def enter(self, folder: Path) -> None:
        """Read the rules of a folder."""
        path = folder / _NAME
        try:
            if path.is_file():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                self._specs[folder.absolute()] = GitIgnoreSpec.from_lines(lines)
        except (OSError, ValueError) as error:
            self._note(f"skipped: {path}: {error}")

    def ignores(self, path: Path, *, folder: bool = False) -> bool:
        """Whether the rules exclude a path: the last matching rule of the nearest folder decides.

        The folders above it were checked before. Excluded folders are not entered.
        """
        path = path.absolute()
        for parent in path.parents:
            spec = self._specs.get(parent)
            if spec is not None:
                relative = path.relative_to(parent).as_posix() + ("/" if folder else "")
                for pattern in reversed(list(spec.patterns)):
                    if pattern.include is not None and _names(pattern, relative):
                        return bool(pattern.include)
        return False


def _names(pattern: Any, relative: str) -> bool:
    """Whether a pattern matches a path itself, and not only a folder above it.

    pathspec checks only files: a pattern that matches a folder matches all its files. Its match has a group for the
    slash after the folder, which must be the slash of the path itself.
    """
    found = pattern.match_file(relative)
    if found is None:
        return False
    match = found.match
    if pattern.regex.pattern == ".":  # `*`: everything
        return True
    if match.re.pattern == _ANY_FOLDER:
        return relative.endswith("/")
    if match.lastgroup is not None:
        return bool(match.end(match.lastgroup) == len(relative))
    inside = match.group().endswith("/")  # `folder/**`: its content, but not the folder
    return bool(match.end() < len(relative)) if inside else bool(match.end() == len(relative))


def _above(root: Path) -> list[Path]:
    """The folders above a tree up to the root of its repository, nearest first; none if there is no repository."""
    found: list[Path] = []
    for folder in root.parents:
        if (root / ".git").exists():
            break
        found.append(folder)
        if (folder / ".git").exists():
            return found
    return []
