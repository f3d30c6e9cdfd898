"""Load modules that cells may need, because a confined worker can open no file and import nothing."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import pkgutil
import random
import warnings
from importlib.resources import files
from typing import Final

from rlm_adapters.sandbox.language.classes import Classes
from rlm_adapters.sandbox.language.facades import BUILDERS, Environment, pdf, zones
from rlm_adapters.sandbox.language.facades.environment import guest_code
from rlm_adapters.sandbox.language.guards import Guards
from rlm_adapters.sandbox.language.imports import Modules
from rlm_adapters.sandbox.language.names import words
from rlm_adapters.sandbox.language.tracebacks import CellSources
from rlm_adapters.sandbox.runtime.clock import VirtualClock
from rlm_adapters.sandbox.runtime.files import FileSystem
from rlm_adapters.sandbox.runtime.output import Output
from rlm_adapters.sandbox.runtime.tasks import Scheduler

_LAZY: Final = words(
    """_strptime _pylong _pydatetime _blake2 _sha3 unicodedata stringprep linecache encodings.idna
    encodings.punycode encodings.ascii encodings.latin_1 encodings.iso8859_1 encodings.iso8859_15 encodings.cp1250
    encodings.cp1251 encodings.cp1252 encodings.cp437 encodings.mac_roman encodings.utf_8 encodings.utf_8_sig
    encodings.utf_16 encodings.utf_16_le encodings.utf_16_be encodings.utf_32 encodings.utf_32_le encodings.utf_32_be
    encodings.utf_7 encodings.koi8_r encodings.shift_jis encodings.euc_jp encodings.gbk encodings.gb18030 encodings.big5
    encodings.euc_kr encodings.unicode_escape encodings.raw_unicode_escape encodings.charmap encodings.hex_codec
    encodings.base64_codec encodings.rot_13"""
)
"""Modules that the standard library imports inside functions, or C code at the first use. Some exist only in some
versions."""


_TOOLS: Final = words("conftest distutils f2py testing tests typing setup")
"""Parts of packages for their developers."""


@functools.cache
def preload() -> None:
    """Import the modules of the facades, and compile the guest modules, once for this process."""
    for name in _LAZY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in ("blake2b", "blake2s", "sha3_256"):
        hashlib.new(name)
    for source in files("rlm_adapters.sandbox.language.guest").iterdir():  # cells cannot import some of them
        if source.name.endswith(".py"):
            guest_code(source.name.removesuffix(".py"))
    zones.zone_data()
    modules = _throwaway_modules()
    # pypdf is large, so it is loaded only for sessions with a PDF file
    for name in BUILDERS.keys() - pdf.MODULES.keys():
        with contextlib.suppress(ImportError):
            modules.load(name)


@functools.cache
def load_package(name: str) -> None:
    """Import a package that the user has allowed, with parts that it would import at the first use.

    Raises:
        ImportError: it is not installed.
    """
    package = importlib.import_module(name)
    for part in pkgutil.iter_modules(getattr(package, "__path__", ())):
        if not part.name.startswith("_") and part.name not in _TOOLS:
            # Some parts need other packages, or are deprecated.
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(f"{name}.{part.name}")


def _throwaway_modules() -> Modules:
    from rlm_adapters.sandbox.language.builtin_names import make_builtins  # noqa: PLC0415 - it needs this package whole

    classes, clock, sources = Classes(), VirtualClock(0), CellSources()
    namespace: dict[str, object] = {}
    modules = Modules(lambda: environment, classes)
    environment = Environment(
        classes=classes,
        guards=Guards(classes, namespace, clock),
        output=Output(0),
        files=FileSystem(0),
        clock=clock,
        random=random.Random(0),  # noqa: S311 - thrown away
        scheduler=Scheduler(lambda _: [], clock.monotonic, clock.advance_to),
        sources=sources,
        import_module=modules.load,
    )
    environment.builtins.update(make_builtins(environment, modules.import_statement, namespace, lambda: namespace))
    return modules
