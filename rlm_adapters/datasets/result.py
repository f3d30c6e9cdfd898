"""What a start of a job has done."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm_adapters.models.usage import Usage, empty_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class MapResult:
    """The result of one call of `map_rows`; during the call, its result so far.

    Attributes:
        rows: of the data, those that were skipped included; None: nobody knows yet.
        answered: rows that this start has answered.
        failed: rows that this start has asked in vain.
        skipped: rows that were answered, or had failed, in an earlier start.
        failures: `failed` by kind.
        usage: of this start.
        job_usage: of all starts.
        seconds: of this start.
        stopped: why there are rows left that were not asked; None: there are none, or only those after ``limit``.
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
