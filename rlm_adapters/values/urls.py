"""Fetch pages and files of the web as inputs.

An address is fetched only if it is a `URL` object. Clients, cells and models cannot make one from text. The command
line makes one from an argument that begins with ``http://`` or ``https://``.
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
    """An address whose content is an input, such as ``context=URL("https://example.org/report.pdf")``.

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
        """Refuse a value that is not a web address."""
        _checked(self.address)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The content of an address.

    Attributes:
        name: last part of the address, with a suffix for the type.
        data: the content; text is in UTF-8.
    """

    name: str
    data: bytes


def is_url(text: str) -> bool:
    """Whether a text is a web address, for the command line."""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: URL) -> Fetched:
    """Get the content of an address, through at most five redirects.

    A public address must not redirect to an address of the local network, because services there trust local clients.

    Raises:
        InputError: it cannot be fetched, or is too large.
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
                            raise InputError(f"{url.address} redirects to {target.host}, which is not a public address")
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
        raise InputError(f"{address!r:.200} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{address!r:.200} is not a web address: give http:// or https://")
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
    """The data in UTF-8, if the server says that it is text in another encoding."""
    charset = response.charset_encoding
    if charset is None or charset.lower().replace("_", "-") in ("utf-8", "utf8", "us-ascii"):
        return data
    try:
        return data.decode(charset, "replace").encode()
    except LookupError:
        return data


def _is_public(host: str) -> bool:
    """Whether a host has only public addresses; False if no address is known, for example behind a proxy."""
    try:
        found: Iterable[str] = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in found)
