"""Time zones. A confined worker cannot open files, so the data are read before it is confined."""

from __future__ import annotations

import contextlib
import functools
import io
import zoneinfo
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.language.hostclass import checked_class

_MAGIC: Final = b"TZif"
_COPIES: Final = frozenset({"posix", "right"})
"""Folders in Debian's zone data that contain all zones a second time."""


@functools.cache
def zone_data() -> Mapping[str, bytes]:
    """The compiled zones by name (RFC 8536): from the system, else from the package tzdata, else none."""
    found: dict[str, bytes] = {}
    roots: list[Any] = [Path(path) for path in zoneinfo.TZPATH]
    with contextlib.suppress(ModuleNotFoundError):  # most systems have their own data
        roots.append(resources.files("tzdata.zoneinfo"))
    for root in roots:
        if root.is_dir():
            _read(root, "", found)
        if found:
            break
    return found


def _read(folder: Any, prefix: str, found: dict[str, bytes]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name not in _COPIES:
                _read(entry, f"{prefix}{entry.name}/", found)
        elif "." not in entry.name and (data := entry.read_bytes())[:4] == _MAGIC:
            found[prefix + entry.name] = data


def _zoneinfo(environment: Environment) -> Mapping[str, object]:
    edition: Any = checked_class(zoneinfo.ZoneInfo, hide=("from_file", "no_cache", "clear_cache"))
    made: dict[
        str, object
    ] = {}  # Python compares two times of one zone object by their local time, so each zone must be one object

    def new(_cls: type, key: str) -> object:
        """The time zone of this name."""
        if not isinstance(key, str):
            raise TypeError(f"the key of a time zone is a str, not {type(key).__name__}")
        key = str.__str__(key)
        if key not in made:
            data = zone_data().get(key)
            if data is None:
                raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
            made[key] = super(edition, edition).from_file(io.BytesIO(data), key)
        return made[key]

    edition.__new__ = staticmethod(new)
    environment.classes.allow(edition, shown_for=zoneinfo.ZoneInfo)
    return {
        "ZoneInfo": edition,
        "ZoneInfoNotFoundError": zoneinfo.ZoneInfoNotFoundError,
        "available_timezones": lambda: set(zone_data()) - {"localtime", "posixrules", "Factory"},
    }


MODULES: Final[dict[str, Builder]] = {"zoneinfo": _zoneinfo}
