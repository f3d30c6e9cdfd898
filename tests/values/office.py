"""Small Office documents and e-books, written by hand: a ZIP archive of XML."""

import io
import zipfile

_DOC = "http://schemas.openxmlformats.org"
_REL = f"{_DOC}/officeDocument/2006/relationships"
_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>{}</Types>'
)


def _rels(*links):
    inner = "".join(
        f'<Relationship Id="r{n}" Type="{_REL}/{kind}" Target="{target}"{mode}/>'
        for n, (kind, target, mode) in enumerate(links, 1)
    )
    return f'<?xml version="1.0"?><Relationships xmlns="{_DOC}/package/2006/relationships">{inner}</Relationships>'


def packed(parts):
    """A ZIP archive of these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def docx(text, *, xml=None, links=()):
    """A Word document of one paragraph; or with this document.xml and these relationships."""
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    body = f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"
    namespace = f"{_DOC}/wordprocessingml/2006/main"
    document = f'<?xml version="1.0"?><w:document xmlns:w="{namespace}"><w:body>{body}</w:body></w:document>'
    return packed(
        {
            "[Content_Types].xml": _TYPES.format(f'<Override PartName="/word/document.xml" ContentType="{kind}"/>'),
            "_rels/.rels": _rels(("officeDocument", "word/document.xml", "")),
            "word/document.xml": xml or document,
            "word/_rels/document.xml.rels": _rels(*links),
        }
    )


def xlsx(rows, sheet="Sheet1"):
    """A workbook with one sheet."""
    main = f"{_DOC}/spreadsheetml/2006/main"
    cells = "".join(
        "<row>"
        + "".join(
            f"<c><v>{value}</v></c>"
            if isinstance(value, int | float)
            else f'<c t="inlineStr"><is><t>{value}</t></is></c>'
            for value in row
        )
        + "</row>"
        for row in rows
    )
    book = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    return packed(
        {
            "[Content_Types].xml": _TYPES.format(
                f'<Override PartName="/xl/workbook.xml" ContentType="{book}.sheet.main+xml"/>'
                f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{book}.worksheet+xml"/>'
            ),
            "_rels/.rels": _rels(("officeDocument", "xl/workbook.xml", "")),
            "xl/workbook.xml": f'<?xml version="1.0"?><workbook xmlns="{main}" xmlns:r="{_REL}"><sheets>'
            f'<sheet name="{sheet}" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": _rels(("worksheet", "worksheets/sheet1.xml", "")),
            "xl/worksheets/sheet1.xml": f'<?xml version="1.0"?><worksheet xmlns="{main}"><sheetData>{cells}'
            "</sheetData></worksheet>",
        }
    )


def pptx(text):
    """A presentation with one slide."""
    ppt = "application/vnd.openxmlformats-officedocument.presentationml"
    names = f'xmlns:p="{_DOC}/presentationml/2006/main" xmlns:a="{_DOC}/drawingml/2006/main" xmlns:r="{_REL}"'
    return packed(
        {
            "[Content_Types].xml": _TYPES.format(
                f'<Override PartName="/ppt/presentation.xml" ContentType="{ppt}.presentation.main+xml"/>'
                f'<Override PartName="/ppt/slides/slide1.xml" ContentType="{ppt}.slide+xml"/>'
            ),
            "_rels/.rels": _rels(("officeDocument", "ppt/presentation.xml", "")),
            "ppt/presentation.xml": f'<?xml version="1.0"?><p:presentation {names}><p:sldIdLst>'
            '<p:sldId id="256" r:id="r1"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": _rels(("slide", "slides/slide1.xml", "")),
            "ppt/slides/slide1.xml": f'<?xml version="1.0"?><p:sld {names}><p:cSld><p:spTree><p:sp><p:txBody>'
            f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>",
        }
    )


def epub(*chapters):
    """An e-book with these chapters."""
    manifest = "".join(
        f'<item id="c{n}" href="c{n}.xhtml" media-type="application/xhtml+xml"/>' for n in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<?xml version="1.0"?><container version="1.0" '
            'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="b.opf" '
            'media-type="application/oebps-package+xml"/></rootfiles></container>',
            "b.opf": '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>B</dc:title></metadata>'
            f"<manifest>{manifest}</manifest><spine>{spine}</spine></package>",
            **{
                f"c{n}.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>{text}</p></body></html>'
                for n, text in enumerate(chapters)
            },
        }
    )


def odf(kind, body):
    """An OpenDocument file: ``text`` with paragraphs, or ``spreadsheet`` with a table."""
    office = "urn:oasis:names:tc:opendocument:xmlns"
    return packed(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "META-INF/manifest.xml": f'<?xml version="1.0"?><manifest:manifest xmlns:manifest="{office}:manifest:1.0"/>',
            "content.xml": f'<?xml version="1.0"?><office:document-content xmlns:office="{office}:office:1.0" '
            f'xmlns:text="{office}:text:1.0" xmlns:table="{office}:table:1.0" office:version="1.2"><office:body>'
            f"<office:{kind}>{body}</office:{kind}></office:body></office:document-content>",
        }
    )
