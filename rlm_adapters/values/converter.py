"""The process that converts documents for `rlm_adapters.values.documents`. It is confined before the first document."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import kreuzberg

from rlm_adapters.sandbox.hardening import landlock, privileges, rlimits, seccomp
from rlm_adapters.sandbox.hardening.confinement import address_space
from rlm_adapters.sandbox.hardening.probe import probe

_MEMORY_BYTES = 3 << 30  # in addition to the memory at the start of the process
_FILES = 32


def confine(warm_up: Any) -> None:
    """Apply the sandbox layers that this machine has, in an order that lets the converter start threads.

    Landlock applies to threads that start later, so the converter starts its threads after Landlock. Seccomp applies to
    all threads, and would not allow the converter to start them.
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
    """Convert documents until there are no more.

    A document arrives as a line with ``media type, size``, and its bytes. The answer is a line with ``T`` (``E`` for an
    error) and the size, and the bytes of the text in UTF-8.
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
