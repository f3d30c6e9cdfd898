"""Make data for the examples, without further packages: a PDF, and an image of a bar chart."""

import struct
import zlib
from collections.abc import Sequence


def pdf(pages: Sequence[str]) -> bytes:
    """A PDF with one page for each text, in Latin-1 and in lines as they stand."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"", b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    kids = []
    for text in pages:
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        shown = " T* ".join(f"({line}) Tj" for line in escaped.splitlines())
        stream = f"BT /F1 11 Tf 14 TL 50 790 Td {shown} ET".encode("latin-1")
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R/Resources<</Font<</F1 3 0 R>>>>>>"
            % len(objects)
        )
        kids.append(len(objects))
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<</Type/Pages/Kids[%s]/Count %d>>" % (listed, len(kids))

    written, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return written + end % (len(objects) + 1, table, len(objects) + 1, len(written))


def bar_chart(values: Sequence[int], colour: tuple[int, int, int] = (40, 90, 160)) -> bytes:
    """A PNG of 240 pixels height with one bar for each value; a value of 100 is a bar of full height."""
    bar, gap, height = 40, 20, 240
    width = gap + len(values) * (bar + gap)
    rows = []
    for y in range(height):
        row = bytearray(b"\xff" * (3 * width))
        for number, value in enumerate(values):
            if height - y <= height * value / 100:
                start = 3 * (gap + number * (bar + gap))
                row[start : start + 3 * bar] = bytes(colour) * bar
        rows.append(b"\0" + bytes(row))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    image = zlib.compress(b"".join(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", image) + chunk(b"IEND", b"")
