"""Pages and files of the web, for a person who asks for them.

An address is fetched only where it comes as a `URL` object, which no client, cell or model can make out of text; the
command line makes one of an argument that begins with ``http://`` or ``https://``.
"""

from __future__ import annotations

import ipaddress
import mimetypes
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx

from rlm_adapters.errors import InputError

_REDIRECTS: Final = 5
_HEADERS: Final = {"user-agent": "rlm-adapters", "accept": "text/html,application/pdf,text/*;q=0.9,*/*;q=0.5"}


@dataclass(frozen=True, slots=True)
class URL:
    """An address whose content is an input, as ``context=URL("https://example.org/report.pdf")``.

    Args:
        address: ``http://`` or ``https://``.
        max_bytes: largest size of the content, in bytes.
        seconds: longest time without data while it downloads.

    Raises:
        InputError: the address does not begin with ``http://`` or ``https://``.
    """

    address: str
    max_bytes: int = 64 << 20
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what is no address of the web."""
        _checked(self.address)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an address gave.

    Attributes:
        name: its last part, with a suffix that tells the type.
        data: the content; text in UTF-8.
    """

    name: str
    data: bytes


def is_url(text: str) -> bool:
    """Whether a text is an address of the web, for the command line."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: URL) -> Fetched:
    """Get the content of an address, through at most five redirects.

    A public address may not redirect to one of the local network, whose services trust whoever reaches them.

    Raises:
        InputError: it cannot be had, or is too large.
    """
    target = _checked(url.address)
    outside = _is_public(target.host)
    try:
        with httpx.Client(timeout=url.seconds, headers=_HEADERS) as client:
            for _ in range(_REDIRECTS + 1):
                with client.stream("GET", target) as response:
                    if response.has_redirect_location:
                        target = _checked(str(target.join(response.headers["location"])))
                        if outside and not _is_public(target.host):
                            raise InputError(f"{url.address} redirects to {target.host}, which is no public address")
                        continue
                    if response.is_error:
                        raise InputError(f"{url.address}: the server answers {response.status_code}; check the address")
                    return Fetched(_name(target, response), _in_utf8(_body(response, url), response))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(f"{url.address} cannot be fetched: {error or type(error).__name__}") from error
    raise InputError(f"{url.address} redirects more than {_REDIRECTS} times: give the last address")


def _checked(address: str) -> httpx.URL:
    try:
        urlsplit(address)
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{address!r:.200} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{address!r:.200} is no address of the web: give http:// or https://")
    return url


def _body(response: httpx.Response, url: URL) -> bytes:
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > url.max_bytes:
            raise InputError(f"{url.address} is larger than {url.max_bytes:,} bytes: give URL(..., max_bytes=...)")
        parts.append(part)
    return b"".join(parts)


def _name(target: httpx.URL, response: httpx.Response) -> str:
    last = unquote(PurePosixPath(target.path).name) or target.host
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    guessed = {"text/html": ".html", "application/xhtml+xml": ".html"}.get(kind) or mimetypes.guess_extension(kind)
    known = mimetypes.guess_type(last)[0]
    return (
        last if not guessed or known == kind or kind in ("text/plain", "application/octet-stream") else last + guessed
    )


def _in_utf8(data: bytes, response: httpx.Response) -> bytes:
    """Text that the server says is in another encoding, in UTF-8."""
    charset = response.charset_encoding
    if charset is None or charset.lower().replace("_", "-") in ("utf-8", "utf8", "us-ascii"):
        return data
    try:
        return data.decode(charset, "replace").encode()
    except LookupError:
        return data


def _is_public(host: str) -> bool:
    """Whether a host has public addresses only; False where it has none that we can see, as behind a proxy."""
    try:
        found: Iterable[str] = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)
