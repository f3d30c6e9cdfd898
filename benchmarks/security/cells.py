"""Ordinary cells: how many run, and print and submit what plain Python does."""

from __future__ import annotations

from benchmarks.security.report import Part
from rlm_adapters.sandbox import Sandbox
from tests.sandbox.corpus_cells import Compared, compare_cells, compare_real_cells


def run() -> list[Part]:
    with Sandbox() as sandbox:
        return [
            _part("cells written for the purpose", compare_cells(sandbox)),
            _part("cells of real runs", compare_real_cells(sandbox)),
        ]


def _part(what: str, compared: list[Compared]) -> Part:
    different = {one.id: f"plain Python {one.plain}, here {one.ours}" for one in compared if not one.equal}
    equal = len(compared) - len(different)
    return Part(f"{what}: {equal} of {len(compared)} print and submit what plain Python does", different)
