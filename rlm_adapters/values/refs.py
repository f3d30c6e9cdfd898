"""References to stored content, and their form in the graph's state.

Only this package and a Python caller can make a reference. Cells, tools, models and clients of a server give JSON
values and text, which are never read as a reference: in Python a reference is a `ContentRef`, and in the state it is
``bytes``, a type that JSON does not have. Bytes of a user are always stored, so all bytes in the state are references.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from rlm_adapters.errors import ContentError, InputError

Kind: TypeAlias = Literal["text", "bytes", "json"]
Packed: TypeAlias = Any
"""A value in the state: a small JSON value itself, else the state form of a `ContentRef`."""

SHARED: Final = "shared"
"""Owner of content that a caller has put into a store. It is kept until it is deleted or too old."""

_OF_A_RUN: Final = "run-"
_KEY = re.compile(r"[0-9a-f]{64}")
_OWNER = re.compile(r"shared|(?:thread|run)-[0-9a-f]{32}")
_CIPHER = re.compile(r"[A-Za-z0-9_.-]{0,40}")
_STATE_FORM = re.compile(rb"rlm-content-2 ([a-z]+) ([0-9]{1,18}) ([0-9]{1,18}) ([a-z0-9-]+) ([0-9a-f]{64}) ([^ ]*)")
_KINDS: Final = ("text", "bytes", "json")


@dataclass(frozen=True, slots=True)
class ContentRef:
    """Reference to a stored value.

    Attributes:
        sha256: hash of the stored bytes, 64 hexadecimal digits. Random digits for a value of an unsaved run that is
            only in memory.
        kind: ``text`` (UTF-8), ``bytes`` or ``json`` (UTF-8 JSON).
        size: characters of a text, bytes, or items of a list or dict.
        nbytes: number of stored bytes. A read takes no more.
        owner: owner of the content: a thread, an unsaved run, or ``shared``.
        cipher: name of the cipher that sealed it; empty if it is not sealed.

    Raises:
        InputError: a field has a wrong value.
    """

    sha256: str
    kind: Kind
    size: int
    nbytes: int
    owner: str = SHARED
    cipher: str = ""

    def __post_init__(self) -> None:
        check_key(self.sha256)
        check_owner(self.owner)
        if self.kind not in _KINDS:
            raise InputError(f"kind={self.kind!r} of a reference: it is one of {', '.join(_KINDS)}")
        for name in ("size", "nbytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise InputError(f"{name}={value!r} of a reference: give a number of at least 0")
        if type(self.cipher) is not str or not _CIPHER.fullmatch(self.cipher):
            raise InputError(f"cipher={self.cipher!r} of a reference: a name of letters, digits, '_', '.' and '-'")

    def to_state(self) -> bytes:
        """The form in checkpoints."""
        text = f"rlm-content-2 {self.kind} {self.size} {self.nbytes} {self.owner} {self.sha256} {self.cipher}"
        return text.encode()

    @classmethod
    def from_state(cls, value: bytes) -> ContentRef:
        """Inverse of `to_state`.

        Raises:
            ContentError: the bytes are not a reference of this version.
        """
        found = _STATE_FORM.fullmatch(value)
        if found is None:
            raise ContentError(
                f"bytes in the state are not a reference of this version ({value[:40]!r}): "
                "finish the run with the version of rlm-adapters that started it, or ask again"
            )
        kind, size, nbytes, owner, sha256, cipher = (part.decode("ascii", "replace") for part in found.groups())
        try:
            return cls(sha256, cast("Kind", kind), int(size), int(nbytes), owner, cipher)
        except InputError as error:
            raise ContentError(f"a reference in the state is broken: {error}") from error


def is_ref(value: object) -> bool:
    """Whether a value of the state is a reference. All bytes in the state are references."""
    return isinstance(value, bytes)


def check_key(key: object) -> str:
    """Check a key of stored content. Only a hash can become part of a path.

    Raises:
        InputError: it is not a key.
    """
    if type(key) is not str or not _KEY.fullmatch(key):
        raise InputError(f"{key!r:.80} is not a content key: give 64 hexadecimal digits, as in ContentRef.sha256")
    return key


def check_owner(owner: object) -> str:
    """Check the name of an owner; see `check_key`.

    Raises:
        InputError: it is not the name of an owner.
    """
    if type(owner) is not str or not _OWNER.fullmatch(owner):
        raise InputError(f"{owner!r:.80} is not an owner of content: use thread_owner(), run_owner() or SHARED")
    return owner


def thread_owner(thread_id: object) -> str:
    """The owner of a LangGraph thread's content. Its name is a hash, because a client chooses the thread id."""
    return "thread-" + hashlib.sha256(str(thread_id).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def run_owner() -> str:
    """A new owner for an unsaved run. Its content is deleted when the run ends."""
    return f"{_OF_A_RUN}{uuid.uuid4().hex}"


def is_run_owner(owner: str) -> bool:
    """Whether it is the owner of an unsaved run."""
    return owner.startswith(_OF_A_RUN)
