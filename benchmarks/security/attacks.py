"""Attacks by class: how many are stopped, with the language policy and by the operating system alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.measure import table
from benchmarks.security.report import Part
from rlm_adapters.sandbox import Sandbox
from tests.sandbox.attacks.attack_corpus import Attack, given_attacks, own_attacks
from tests.sandbox.attacks.attack_sweep import Failures, family, has_values, sweep_bare, sweep_oracle, sweep_session
from tests.sandbox.attacks.test_attacks_own import LIMITS
from tests.sandbox.hardening.os_oracle import Host

_THREADS = 8
_RUNNERS = 2


def run() -> list[Part]:
    given, own = given_attacks(), own_attacks()
    attacks = [*given, *own]
    values = sweep_oracle(attacks, threads=_RUNNERS)
    with Sandbox(limits=LIMITS) as sandbox:
        report = sandbox.report
        sessions = sweep_session(attacks, sandbox, threads=_THREADS)
    confined = report.level == "os"
    bare, tried, mute = _bare(attacks) if confined else ({}, 0, 0)
    _show(attacks, values, sessions, bare if confined else None)
    parts = [
        Part(
            f"policy on, {name}: {_stopped(some, values | sessions)} of {len(some)} stopped",
            _only(values | sessions, some),
        )
        for name, some in (("attacks given with the project", given), ("attacks of our own", own))
    ]
    if not confined:
        notes = tuple(report.notes)
        return [*parts, Part("policy off: not tried, since this machine does not confine workers fully", notes=notes)]
    return [
        *parts,
        Part(
            f"policy off, all: {_stopped(attacks, bare)} of {len(attacks)} reached nothing of the host, "
            f"nor did the {tried} attempts that their workers were made to make afterwards",
            bare,
            (f"{mute} workers could not be made to try (wrecked by their attack): judged by the host's side alone",)
            if mute
            else (),
        ),
        _without_layers(),
    ]


def _bare(attacks: Sequence[Attack]) -> tuple[Failures, int, int]:
    with Host() as host, Sandbox(limits=LIMITS, parallel="off", _policy_off=True) as sandbox:
        failures = sweep_bare(attacks, sandbox, host, threads=_THREADS)
    return failures, host.attempts, host.mute


def _without_layers() -> Part:
    """The count above means something only if the same attempts succeed when nothing stops them."""
    with (
        Host() as host,
        Sandbox(limits=LIMITS, parallel="off", _policy_off=True, _layers=["rlimits"]) as sandbox,
        sandbox.open() as session,
    ):
        found = host.reached(session)
    return Part(
        f"the same attempts without Landlock and seccomp: {len(found)} succeed, so the count above can fail",
        {} if len(found) >= 10 else {"the oracle": f"it saw only {found}"},
    )


def _show(attacks: Sequence[Attack], values: Failures, sessions: Failures, bare: Failures | None) -> None:
    families: dict[str, list[Attack]] = {}
    for attack in sorted(attacks, key=family):
        families.setdefault(family(attack), []).append(attack)

    def row(name: str, some: list[Attack]) -> list[object]:
        judged = [attack for attack in some if has_values(attack)]
        return [
            name,
            len(some),
            f"{_stopped(judged, values)}/{len(judged)}" if judged else "-",
            f"{_stopped(some, sessions)}/{len(some)}",
            "-" if bare is None else f"{_stopped(some, bare)}/{len(some)}",
        ]

    table(
        "attacks stopped, by class\n"
        "  values: policy on, in-process, what the attack holds is judged (those that need a limit are not run there)\n"
        "  session: policy on, through a session: clean report, limits end it, session usable afterwards\n"
        "  OS alone: policy off, through a session: nothing of the host was reached",
        ["class", "attacks", "values", "session", "OS alone"],
        [*(row(name, some) for name, some in families.items()), row("all", list(attacks))],
    )


def _stopped(attacks: Iterable[Attack], failures: Failures) -> int:
    return sum(attack.id not in failures for attack in attacks)


def _only(failures: Failures, attacks: Iterable[Attack]) -> Failures:
    return {attack.id: failures[attack.id] for attack in attacks if attack.id in failures}
