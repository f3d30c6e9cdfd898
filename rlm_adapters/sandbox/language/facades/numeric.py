"""Numbers: math, statistics, decimal, fractions, random."""

from __future__ import annotations

import decimal
import fractions
import functools
import random
import statistics
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facade import pick, public_names
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.language.hostclass import checked_class

_NUMBERS: Final = (int, float, decimal.Decimal, fractions.Fraction)
_RANDOM: Final = """random randint randrange choice choices sample shuffle seed uniform gauss normalvariate
    lognormvariate betavariate expovariate triangular vonmisesvariate gammavariate paretovariate weibullvariate
    getrandbits randbytes binomialvariate"""

Fraction: Final = checked_class(fractions.Fraction)
NormalDist: Final = checked_class(statistics.NormalDist)
UUID: Final = checked_class(uuid.UUID)
Random: Final = checked_class(random.Random)


def _numbers_only(function: Callable[..., Any], inputs: int = 1) -> Callable[..., Any]:
    """Accept only numbers: ``statistics`` calls ``type(x)(...)``, which is the metaclass if ``x`` is a class."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        return function(*[_checked_numbers(a) for a in args[:inputs]], *args[inputs:], **kwargs)

    return checked


def _checked_numbers(values: Iterable[Any]) -> list[Any]:
    values = list(values)
    for value in values:
        if not isinstance(value, _NUMBERS):
            raise TypeError(f"can't convert type {type(value).__name__!r} to numerator/denominator")
    return values


def _statistics(_: Environment) -> Mapping[str, object]:
    numeric = """mean fmean median median_low median_high median_grouped stdev pstdev variance pvariance quantiles
        geometric_mean harmonic_mean"""
    names: dict[str, object] = {name: _numbers_only(f) for name, f in pick("statistics", numeric).items()}
    pairs = pick("statistics", "correlation covariance linear_regression")
    names.update({name: _numbers_only(f, inputs=2) for name, f in pairs.items()})
    return {**names, **pick("statistics", "mode multimode StatisticsError"), "NormalDist": NormalDist}


def _fractions(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(Fraction, shown_for=fractions.Fraction)
    return {"Fraction": Fraction}


def _random(environment: Environment) -> Mapping[str, object]:
    generator = environment.random

    def make_random(seed: Any = None) -> random.Random:
        """A generator of its own; without a seed it is seeded from the session's."""
        return Random(generator.getrandbits(64) if seed is None else seed)

    names = {name: getattr(generator, name) for name in _RANDOM.split() if hasattr(generator, name)}
    return {**names, "Random": make_random, "SystemRandom": lambda *_: make_random()}


def _secrets(environment: Environment) -> Mapping[str, object]:
    generator = environment.random
    return {
        "token_hex": lambda nbytes=32: generator.randbytes(nbytes).hex(),
        "token_bytes": lambda nbytes=32: generator.randbytes(nbytes),
        "randbelow": generator.randrange,
        "choice": generator.choice,
        "randbits": generator.getrandbits,
    }


def _uuid(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(UUID, shown_for=uuid.UUID)

    def uuid4() -> uuid.UUID:
        """A random UUID from the session's generator."""
        return UUID(int=environment.random.getrandbits(128), version=4)

    def uuid1(*_: object) -> uuid.UUID:
        """A UUID from the session's clock and generator."""
        bits = environment.random.getrandbits(128)
        return UUID(int=bits, version=1)

    return {
        **pick("uuid", "uuid3 uuid5 NAMESPACE_URL NAMESPACE_DNS NAMESPACE_OID NAMESPACE_X500"),
        "UUID": UUID,
        "uuid1": uuid1,
        "uuid4": uuid4,
    }


def _decimal(environment: Environment) -> Mapping[str, object]:
    environment.classes.allow(decimal.Context, writable="prec rounding Emin Emax capitals clamp")
    return pick(
        "decimal",
        """Decimal Context getcontext setcontext localcontext DefaultContext BasicContext ExtendedContext
        ROUND_HALF_UP ROUND_HALF_EVEN ROUND_HALF_DOWN ROUND_DOWN ROUND_UP ROUND_CEILING ROUND_FLOOR ROUND_05UP
        DecimalException InvalidOperation DivisionByZero Overflow Underflow Inexact Rounded Clamped Subnormal
        FloatOperation MAX_PREC MAX_EMAX MIN_EMIN""",
    )


MODULES: Final[dict[str, Builder]] = {
    "math": lambda _: public_names("math"),
    "cmath": lambda _: public_names("cmath"),
    "statistics": _statistics,
    "decimal": _decimal,
    "fractions": _fractions,
    "numbers": lambda _: pick("numbers", "Number Complex Real Rational Integral"),
    "random": _random,
    "secrets": _secrets,
    "uuid": _uuid,
}
