"""The process that converts documents for `rlm_adapters.values.documents`: confined before it sees the first one."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import kreuzberg

from rlm_adapters.sandbox.hardening import landlock, privileges, rlimits, seccomp
from rlm_adapters.sandbox.hardening.confinement import address_space
from rlm_adapters.sandbox.hardening.probe import probe

_MEMORY_BYTES = 3 << 30  # beyond what the process has at its start
_FILES = 32


def confine(warm_up: Any) -> None:
    """Apply what this machine has of the sandbox's layers, in the order that a converter with threads allows.

    Landlock holds for the threads that are started after it, so the converter starts its own under it; seccomp holds
    for all threads, and would not let the converter start them.
    """
    layers = probe().layers
    memory = address_space() + _MEMORY_BYTES
    privileges.drop()
    if "landlock" in layers:
        landlock.apply()
    warm_up()
    if "rlimits" in layers:
        rlimits.apply(memory_bytes=memory, files=_FILES, processes=None)
    if "seccomp" in layers:
        seccomp.apply(allow_fork=False)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer documents until there are no more.

    A document comes as ``media type, size`` in a line, and its bytes; its text goes as ``T`` (what is wrong with it as
    ``E``) and the size in a line, and its bytes in UTF-8.
    """
    for line in iter(source.readline, b""):
        media_type, _, size = line.decode("ascii").strip().partition(" ")
        data = source.read(int(size))
        try:
            kind, text = b"T", convert(data, media_type)
        except Exception as error:  # noqa: BLE001 - whatever a document does to the converter, the host is told
            kind, text = b"E", " ".join(str(error).split())[:300] or type(error).__name__
        answer = text.encode("utf-8", "replace")
        sink.write(b"%s %d\n" % (kind, len(answer)) + answer)
        sink.flush()


def convert(data: bytes, media_type: str) -> str:
    """A document as Markdown."""
    options = kreuzberg.ExtractionConfig(output_format="markdown", use_cache=False)
    return str(kreuzberg.extract_bytes_sync(data, media_type, options).content)


if __name__ == "__main__":
    confine(lambda: convert(b"<p>x</p>", "text/html"))
    serve(sys.stdin.buffer, sys.stdout.buffer)
