"""Structured extraction from a 5 MB log: python extract_log.py [LOG].

The answer is validated inside the run, so the model corrects it before you see it. Without a file, the script makes a
log with two outages. RLM_MODEL names the inner model.
"""

import os
import random
import sys
from pathlib import Path

from pydantic import BaseModel, Field, model_validator

from rlm_adapters import ChatRLM


class Outage(BaseModel):
    service: str
    first_line: int = Field(description="number of the first ERROR line of the outage, from 1")
    errors: int = Field(gt=0, description="ERROR lines in it")


class Report(BaseModel):
    """Outages in a log: runs of ERROR lines of one service."""

    lines: int
    outages: list[Outage]

    @model_validator(mode="after")
    def _inside(self) -> "Report":
        for outage in self.outages:
            if not 1 <= outage.first_line <= self.lines:
                raise ValueError(f"first_line={outage.first_line} is outside of the log's {self.lines} lines")
        return self


def made_up_log(lines: int = 90_000) -> str:
    dice = random.Random(7)  # noqa: S311 - no secret, and the same log each time
    services = ["auth", "billing", "search", "mail"]
    written = []
    for number in range(lines):
        service, level = dice.choice(services), "INFO"
        if 20_000 <= number < 20_040:
            service, level = "billing", "ERROR"
        elif 61_500 <= number < 61_575:
            service, level = "search", "ERROR"
        time = f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
        written.append(
            f"2026-03-01T{time} {level} {service} request={dice.randrange(10**9):09} ms={dice.randrange(900)}"
        )
    return "\n".join(written)


log = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else made_up_log()
model = ChatRLM(model=os.environ.get("RLM_MODEL", "openai:gpt-5-mini"))
report = model.with_structured_output(Report).invoke(
    [
        ("human", log),
        ("human", "An outage is a run of ERROR lines of one service. Find all of them."),
    ]
)
print(f"{len(log):,} characters, {report.lines:,} lines")
for outage in report.outages:
    print(f"{outage.service}: {outage.errors} errors from line {outage.first_line:,}")
