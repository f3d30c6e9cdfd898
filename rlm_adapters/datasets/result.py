"""`MapResult`: the result of a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm_adapters.models.usage import Usage, empty_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class MapResult:
    """The result of one call of `map_rows`; during the call, its result so far.

    Attributes:
        rows: number of rows, with skipped ones; None: not known yet.
        answered: rows that were answered in this start.
        failed: rows that failed in this start.
        skipped: rows that were answered, or had failed, in an earlier start.
        failures: `failed` by kind.
        usage: usage of this start.
        job_usage: usage of all starts.
        seconds: time of this start.
        stopped: why some rows were not asked; None: all were asked, except those after ``limit``.
    """

    rows: int | None = None
    answered: int = 0
    failed: int = 0
    skipped: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=empty_usage)
    job_usage: Usage = field(default_factory=empty_usage)
    seconds: float = 0.0
    stopped: str | None = None
