"""Compression, with a limit on the decompressed size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

from rlm_adapters.sandbox.language.facade import pick
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment

MAX_OUTPUT: Final = 256 << 20
"""The most bytes that one call decompresses: a few kilobytes can expand to gigabytes of zeros."""

_LZMA_MEMORY: Final = 256 << 20


def _bounded(data: Any, make: Callable[[], Any], error: type[Exception]) -> bytes:
    """Decompress ``data``, which may be several streams one after the other."""
    data = bytes(data)
    parts: list[bytes] = []
    room = MAX_OUTPUT
    while data:
        decompressor = make()
        part = decompressor.decompress(data, room)
        parts.append(part)
        room -= len(part)
        if not decompressor.eof:
            if room <= 0:
                raise ValueError(f"the decompressed data is larger than {MAX_OUTPUT:,} bytes")
            raise error("the compressed data ended before the end-of-stream marker was reached")
        data = decompressor.unused_data.lstrip(b"\0")
    return b"".join(parts)


def _zlib_decompress(data: Any, /, wbits: int = zlib.MAX_WBITS, bufsize: int = 0) -> bytes:
    """Decompress a zlib stream."""
    del bufsize
    return _bounded(data, lambda: zlib.decompressobj(wbits), zlib.error)


def _gzip_decompress(data: Any) -> bytes:
    """Decompress gzip data."""
    if not bytes(data).startswith(b"\x1f\x8b"):
        raise gzip.BadGzipFile(f"Not a gzipped file ({bytes(data)[:2]!r})")
    return _bounded(data, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), EOFError)


def _opener(
    environment: Environment, compress: Callable[[bytes], bytes], decompress: Callable[[Any], bytes]
) -> Callable[..., IO[Any]]:
    def open_compressed(  # noqa: PLR0917 - the signature of gzip.open()
        filename: Any,
        mode: str = "rb",
        compresslevel: int = 9,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a compressed file of the workspace."""
        del compresslevel
        source = (
            filename
            if hasattr(filename, "read")
            else environment.files.open(filename, mode.replace("t", "b")[:1] + "b")
        )
        raw: Any = io.BytesIO(decompress(source.read())) if mode[:1] == "r" else _CompressedWriter(source, compress)
        return io.TextIOWrapper(raw, encoding or "utf-8", errors, newline) if "t" in mode else raw

    return open_compressed


class _CompressedWriter(io.BytesIO):
    """Collects what is written and compresses it when closed."""

    def __init__(self, target: IO[bytes], compress: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._target = target
        self._compress = compress

    def close(self) -> None:
        """Write the compressed data."""
        if not self.closed:
            self._target.write(self._compress(self.getvalue()))
            self._target.close()
        super().close()

    def getbuffer(self) -> Any:
        """Refuse."""
        raise io.UnsupportedOperation("getbuffer")


def _gzip(environment: Environment) -> Mapping[str, object]:
    def compress(data: bytes, compresslevel: int = 9, *, mtime: float | None = 0) -> bytes:
        """Compress to gzip data, the same each time."""
        return gzip.compress(data, compresslevel, mtime=mtime or 0)

    return {
        "compress": compress,
        "decompress": _gzip_decompress,
        "open": _opener(environment, compress, _gzip_decompress),
        "BadGzipFile": gzip.BadGzipFile,
    }


def _bz2_decompress(data: Any) -> bytes:
    """Decompress bzip2 data."""
    return _bounded(data, bz2.BZ2Decompressor, ValueError)


def _lzma_decompress(data: Any) -> bytes:
    """Decompress xz data."""
    return _bounded(data, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), lzma.LZMAError)


MODULES: Final[dict[str, Builder]] = {
    "zlib": lambda _: {**pick("zlib", "crc32 adler32 compress error"), "decompress": _zlib_decompress},
    "gzip": _gzip,
    "bz2": lambda environment: {
        "compress": bz2.compress,
        "decompress": _bz2_decompress,
        "open": _opener(environment, bz2.compress, _bz2_decompress),
    },
    "lzma": lambda environment: {
        "compress": lzma.compress,
        "decompress": _lzma_decompress,
        "open": _opener(environment, lzma.compress, _lzma_decompress),
        "LZMAError": lzma.LZMAError,
    },
}
