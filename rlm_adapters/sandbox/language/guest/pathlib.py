"""``pathlib`` of the cells, over ``os`` and ``open`` of the cells."""

import fnmatch
import glob
import os


class PurePath:
    """A path as text."""

    def __init__(self, *parts):
        path = os.path.join(*[os.fspath(part) for part in parts]) if parts else "."
        self._path = "/".join(part for part in path.split("/") if part not in ("", ".")) or "."
        if path.startswith("/"):
            self._path = "/" + self._path.lstrip(".")

    def __fspath__(self):
        return self._path

    def __str__(self):
        return self._path

    def __repr__(self):
        return f"PosixPath({self._path!r})"

    def __eq__(self, other):
        return isinstance(other, PurePath) and self._path == other._path

    def __lt__(self, other):
        return self._path < other._path

    def __hash__(self):
        return hash(self._path)

    def __truediv__(self, other):
        return type(self)(self._path, other)

    def __rtruediv__(self, other):
        return type(self)(other, self._path)

    @property
    def name(self):
        return "" if self._path in (".", "/") else self._path.rsplit("/", 1)[-1]

    @property
    def suffix(self):
        return os.path.splitext(self.name)[1]

    @property
    def suffixes(self):
        return ["." + part for part in self.name.lstrip(".").split(".")[1:]]

    @property
    def stem(self):
        return os.path.splitext(self.name)[0]

    @property
    def parent(self):
        return type(self)(os.path.dirname(self._path) or ".")

    @property
    def parents(self):
        found = [self.parent]
        while found[-1].parent != found[-1]:
            found.append(found[-1].parent)
        return found

    @property
    def parts(self):
        root = ("/",) if self.is_absolute() else ()
        return root + tuple(part for part in self._path.split("/") if part not in ("", "."))

    def as_posix(self):
        return self._path

    def is_absolute(self):
        return self._path.startswith("/")

    def joinpath(self, *others):
        return type(self)(self._path, *others)

    def with_name(self, name):
        return self.parent / name

    def with_suffix(self, suffix):
        return self.parent / (self.stem + suffix)

    def with_stem(self, stem):
        return self.parent / (stem + self.suffix)

    def relative_to(self, other):
        base = PurePath(other).parts
        if self.parts[: len(base)] != base:
            raise ValueError(f"{self._path!r} is not in the subpath of {str(other)!r}")
        return type(self)(*self.parts[len(base) :])

    def match(self, pattern):
        return fnmatch.fnmatchcase(self.name if "/" not in pattern else self._path, pattern)


class Path(PurePath):
    """A path in the workspace."""

    @classmethod
    def cwd(cls):
        return cls(os.getcwd())

    home = cwd

    def exists(self):
        return os.path.exists(self)

    def is_file(self):
        return os.path.isfile(self)

    def is_dir(self):
        return os.path.isdir(self)

    def stat(self):
        return os.stat(self)

    def absolute(self):
        return type(self)(os.path.abspath(self))

    def resolve(self, strict=False):
        return self.absolute()

    def expanduser(self):
        return self

    def iterdir(self):
        return (self / name for name in os.listdir(self))

    def glob(self, pattern):
        found = glob.glob(os.path.join(glob.escape(self._path), pattern), recursive=True)
        return (type(self)(path) for path in found)

    def rglob(self, pattern):
        return self.glob("**/" + pattern)

    def open(self, mode="r", buffering=-1, encoding=None, errors=None, newline=None):
        return open(self, mode, buffering, encoding, errors, newline)

    def read_text(self, encoding=None, errors=None):
        with self.open(encoding=encoding, errors=errors) as file:
            return file.read()

    def read_bytes(self):
        with self.open("rb") as file:
            return file.read()

    def write_text(self, data, encoding=None, errors=None, newline=None):
        with self.open("w", encoding=encoding, errors=errors, newline=newline) as file:
            return file.write(data)

    def write_bytes(self, data):
        with self.open("wb") as file:
            return file.write(data)

    def mkdir(self, mode=0o777, parents=False, exist_ok=False):
        if self.is_dir() and exist_ok:
            return
        os.makedirs(self) if parents else os.mkdir(self)

    def unlink(self, missing_ok=False):
        if self.exists() or not missing_ok:
            os.remove(self)

    def rmdir(self):
        os.rmdir(self)

    def rename(self, target):
        os.rename(self, target)
        return type(self)(target)

    replace = rename

    def touch(self, mode=0o666, exist_ok=True):
        if not self.exists():
            self.write_bytes(b"")


PurePosixPath = PurePath
PosixPath = Path
