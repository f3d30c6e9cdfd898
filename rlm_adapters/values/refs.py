"""References to stored content, and the form in which they stand in the graph's state.

A reference can be made by this package and by a Python caller only. Cells, tools, models and clients of a server give
JSON values and text, and none of these is ever taken for a reference: in Python a reference is a `ContentRef`, and in
the state it is ``bytes``, a type that JSON does not have. Bytes of a user's are always stored themselves, so that all
bytes in the state are references.
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
"""A value as it stands in the state: a JSON value itself when small, else the state form of a `ContentRef`."""

SHARED: Final = "shared"
"""Owner of what a caller has put into a store by hand: it stays until it is deleted or too old."""

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
        sha256: hash of the stored bytes, 64 hexadecimal digits; random ones for a value that was never stored, but
            is kept in memory for a run that no saver keeps.
        kind: ``text`` (UTF-8), ``bytes`` or ``json`` (UTF-8 JSON).
        size: characters of a text, bytes, or items of a list or dict.
        nbytes: number of stored bytes; a read takes no more.
        owner: whose content it is: of a thread, of a run that nobody saves, or ``shared``.
        cipher: name of the cipher that sealed it; empty when it is not sealed.

    Raises:
        InputError: a field has an impossible value.
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
        """The form that is saved in checkpoints."""
        text = f"rlm-content-2 {self.kind} {self.size} {self.nbytes} {self.owner} {self.sha256} {self.cipher}"
        return text.encode()

    @classmethod
    def from_state(cls, value: bytes) -> ContentRef:
        """Inverse of `to_state`.

        Raises:
            ContentError: the bytes are no reference of this version.
        """
        found = _STATE_FORM.fullmatch(value)
        if found is None:
            raise ContentError(
                f"bytes in the state are no reference of this version ({value[:40]!r}): "
                "finish the run with the version of rlm-adapters that began it, or ask again"
            )
        kind, size, nbytes, owner, sha256, cipher = (part.decode("ascii", "replace") for part in found.groups())
        try:
            return cls(sha256, cast("Kind", kind), int(size), int(nbytes), owner, cipher)
        except InputError as error:
            raise ContentError(f"a reference in the state is broken: {error}") from error


def is_ref(value: object) -> bool:
    """Whether a value of the state is a reference: all bytes there are."""
    return isinstance(value, bytes)


def check_key(key: object) -> str:
    """The key of stored content, if it is one: what does not look like a hash makes no path.

    Raises:
        InputError: it is none.
    """
    if type(key) is not str or not _KEY.fullmatch(key):
        raise InputError(f"{key!r:.80} is no content key: it has 64 hexadecimal digits, as ContentStore.put gives them")
    return key


def check_owner(owner: object) -> str:
    """The name of an owner, if it is one; see `check_key`.

    Raises:
        InputError: it is none.
    """
    if type(owner) is not str or not _OWNER.fullmatch(owner):
        raise InputError(f"{owner!r:.80} is no owner of content: use thread_owner(), run_owner() or SHARED")
    return owner


def thread_owner(thread_id: object) -> str:
    """The owner of a LangGraph thread's content. A client chooses the id: only its hash becomes a name."""
    return "thread-" + hashlib.sha256(str(thread_id).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def run_owner() -> str:
    """A new owner, for a run that no saver keeps: its content goes at its end."""
    return f"{_OF_A_RUN}{uuid.uuid4().hex}"


def is_run_owner(owner: str) -> bool:
    """Whether it is the owner of what a run that no saver keeps has stored."""
    return owner.startswith(_OF_A_RUN)
