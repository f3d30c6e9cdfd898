"""A page of a PDF file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from rlm_adapters.evaluation.tasks.prose import haystack
from rlm_adapters.evaluation.tasks.task import Question

_PAGE: Final = 2_000  # bytes, about
_COLUMNS: Final = 90


def pdf_page(chance: random.Random, size: int) -> Question:
    """The number on one page. Every page has a number."""
    count = max(3, size // _PAGE)
    numbers = [chance.randrange(100_000, 1_000_000) for _ in range(count)]
    pages = [_wrapped(haystack(chance, size // count, [f"The inventory number is: {number}."])) for number in numbers]
    wanted = chance.randrange(1, count + 1)
    return Question(
        text=f"Which inventory number stands on page {wanted} (the first page of the file is page 1) of report.pdf? "
        "Reply with the number alone.",
        context=pages,
        answer=numbers[wanted - 1],
        kind="number",
        files={"report.pdf": as_pdf(pages)},
    )


def as_pdf(pages: Sequence[str]) -> bytes:
    """A PDF file of plain pages.

    Args:
        pages: the text of each page, ASCII, in lines.
    """
    count = len(pages)
    kids = " ".join(f"{4 + 2 * place} 0 R" for place in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for place, page in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * place} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        shown = "\n".join(f"({_escaped(line)}) Tj T*" for line in page.splitlines())
        stream = f"BT /F1 9 Tf 11 TL 40 760 Td\n{shown}\nET".encode("ascii", "replace")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    data, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(data)


def _wrapped(text: str) -> str:
    """Break a text into lines that fit on a page. Faster than textwrap, for thousands of pages."""
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= _COLUMNS:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
