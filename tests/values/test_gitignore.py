"""A directory is read as Git sees it."""

import subprocess
from pathlib import Path

import pytest

from rlm_adapters.values.gitignore import visible_files
from rlm_adapters.values.inputs import load_paths


@pytest.fixture
def tree(tmp_path):
    """Make files; their names are their contents."""

    def tree(**rules):
        for name in FILES:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        for folder, lines in rules.items():
            (tmp_path / folder.replace("root", ".").replace("__", "/") / ".gitignore").write_text("\n".join(lines))
        return tmp_path

    return tree


FILES = [
    "a.py",
    "a.log",
    "keep.log",
    "build/x.py",
    "src/a.py",
    "src/build/y.py",
    "src/deep/a.log",
    "src/deep/b.txt",
    "ü.log",
]


def seen(root):
    return sorted(path.relative_to(root).as_posix() for path in visible_files(root, print))


def test_without_rules_all_is_read(tree):
    assert seen(tree()) == sorted(FILES)


def test_rules_hold_below_their_folder_and_the_nearest_has_the_last_word(tree):
    root = tree(root=["# logs", "*.log", "!keep.log", "/build/"], src=["deep/*.txt"], src__deep=["!a.log", "!b.txt"])
    assert seen(root) == ["a.py", "keep.log", "src/a.py", "src/build/y.py", "src/deep/a.log", "src/deep/b.txt"]


@pytest.mark.parametrize(
    "rules",
    [
        {"root": ["*.log", "build"]},
        {"root": ["/*", "!/src", "/src/*", "!/src/deep"]},
        {"root": ["**/deep/**"], "src": ["!deep/b.txt"]},
        {"root": ["*.py", "!src/**/*.py"], "src": ["/build"]},
        {"root": ["src/*/", "\\ü.log", "a.*"]},
        {"root": ["*", "!*/", "!*.txt"]},
    ],
)
def test_it_agrees_with_git(tree, rules):
    root = tree(**rules)
    git = ["git", "-C", str(root), "-c", "core.quotePath=false", "-c", "core.excludesFile="]
    subprocess.run([*git[:3], "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert seen(root) == sorted(
        name for name in listed if name and not name.startswith(".gitignore") and "/." not in name
    )


def test_rules_above_hold_up_to_the_repository(tree):
    root = tree(root=["*.log"])
    (root / "src/.git").mkdir()
    assert "deep/a.log" in seen(root / "src"), "another repository begins there"
    (root / "src/.git").rmdir()
    assert "deep/a.log" in seen(root / "src"), "no repository: nothing above counts"
    (root / ".git").mkdir()
    assert seen(root / "src") == ["a.py", "build/y.py", "deep/b.txt"]


def test_an_ignored_directory_that_was_named_is_read(tree):
    root = tree(root=["build/"])
    (root / ".git").mkdir()
    assert seen(root / "build") == ["x.py"]
    assert load_paths([root / "build"]).context == {"x.py": "build/x.py"}


def test_a_gitignore_that_cannot_be_read_is_noted(tmp_path):
    (tmp_path / ".gitignore").write_text("\\\n!\n")
    Path(tmp_path / "a.txt").write_text("a")
    notes = []
    assert [path.name for path in visible_files(tmp_path, notes.append)] == ["a.txt"]
