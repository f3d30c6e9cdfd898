"""Arguments that say how many actors there are, and where: checked, and as Ray wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlm_adapters.errors import InputError


def check_address(address: object) -> None:
    """Refuse what cannot be the address of a cluster.

    Raises:
        InputError: it is none.
    """
    if address is not None and (not isinstance(address, str) or not address):
        raise InputError(f'address={address!r}: give "host:port", "ray://host:port" or "local"')


def check_counts(**counts: object) -> None:
    """Refuse what is neither None nor a number of things.

    Raises:
        InputError: one is.
    """
    for name, count in counts.items():
        if count is not None and (type(count) is not int or count < 1):
            raise InputError(f"{name}={count!r}: give a whole number of at least 1")


def check_seconds(**given: object) -> None:
    """Refuse what is no time to wait.

    Raises:
        InputError: one is not.
    """
    for name, seconds in given.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise InputError(f"{name}={seconds!r}: give seconds above 0")


def actor_options(
    num_cpus: float,
    memory: int | None,
    resources: Mapping[str, float] | None,
    scheduling_strategy: Any,
    runtime_env: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What an actor reserves, and where it may be.

    Raises:
        InputError: it cannot reserve that.
    """
    if isinstance(num_cpus, bool) or not isinstance(num_cpus, int | float) or not 0 <= num_cpus < math.inf:
        raise InputError(f"num_cpus={num_cpus!r}: give a number of CPUs, or 0")
    return {
        "num_cpus": num_cpus,
        "scheduling_strategy": scheduling_strategy,
        **({} if memory is None else {"memory": memory}),
        **({} if resources is None else {"resources": dict(resources)}),
        **({} if runtime_env is None else {"runtime_env": dict(runtime_env)}),
    }
