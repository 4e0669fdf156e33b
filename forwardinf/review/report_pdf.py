"""The report of a case as a PDF, the same bytes for the same case."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import Align, WrapMode, XPos, YPos
from fpdf.fonts import TTFFont
from PIL import Image

from .. import __version__
from ..visible import visible
from .dossier import LIMITS, METHOD, Dossier, Entry
from .findings import FoundMatch
from .signals import Signal
from .text import agreement_as_text, decision_as_text, many

FONT = Path(__file__).with_name("fonts") / "DejaVuSans.ttf"
UNPRINTABLE = "□"  # for a character that the font lacks; the HTML report has all
LACKING = f"{UNPRINTABLE} stands for a character that the font of this PDF lacks; the HTML report has it."
MARGIN, THUMBNAIL, PICTURE, KEPT_TOGETHER = 18, 16, 45, 16  # millimetres


def report_as_pdf(dossier: Dossier) -> bytes:
    """The same content as the HTML report. Text in scripts that the font lacks is shown as □, and that is said."""
    page = _Page()
    page.set_title(f"{dossier.case.name}: report")
    page.set_creation_date(datetime.fromisoformat(dossier.as_of))
    page.heading(dossier.case.name, 20)
    page.text_block(
        f"{many(dossier.entries, 'picture')}, {many(dossier.decisions, 'decision')}, as of {dossier.as_of}. "
        f"Made with Forward-INF {__version__}."
    )
    page.heading("What this is, and what it is not")
    page.text_block(*LIMITS)
    if dossier.not_examined:
        named = ", ".join(f"picture {one.number} ({one.file_name})" for one in dossier.not_examined)
        page.text_block(f"Not examined at all: {named}.")
    page.heading("How it was done")
    page.text_block(*METHOD)
    for entry in dossier.entries:
        _add_entry(page, entry)
    page.heading("Reviewers")
    page.text_block(*agreement_as_text(dossier.agreement, dossier.contradictions).split("\n"))
    page.heading("The chain of decisions")
    page.text_block(f"Its head is {dossier.head}.")
    if page.lacks_some:
        page.text_block(LACKING)
    return bytes(page.output())


class _Page(FPDF):
    """A4, in one font that most scripts of Europe are in."""

    def __init__(self) -> None:
        super().__init__(format="A4")
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, MARGIN)
        self.add_font("DejaVu", "", FONT)
        self.set_font("DejaVu", size=10)
        font = self.fonts["dejavu"]
        assert isinstance(font, TTFFont)
        self._printable = frozenset(font.cmap)
        self.lacks_some = False  # whether anything was written as UNPRINTABLE
        self.add_page()

    def heading(self, text: str, size: int = 14) -> None:
        self.ln(4)
        self.set_font_size(size)
        self._write(text, size * 0.5)
        self.set_font_size(10)

    def text_block(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self._write(paragraph, 5)
            self.ln(1)

    def picture(self, content: bytes, side: float) -> None:
        """A picture at most `side` wide and high, on one page with the first lines of what follows."""
        if self.get_y() + side + KEPT_TOGETHER > self.h - MARGIN:
            self.add_page()
        with Image.open(io.BytesIO(content)) as image:
            rgb = image.convert("RGB")
        self.image(rgb, w=side, h=side, keep_aspect_ratio=True)
        self.ln(1)

    def _write(self, text: str, height: float) -> None:
        text = visible(text)
        shown = "".join(one if one == "\n" or ord(one) in self._printable else UNPRINTABLE for one in text)
        self.lacks_some |= shown != text
        wrap = WrapMode.WORD if " " in text else WrapMode.CHAR
        self.multi_cell(0, height, shown, new_x=XPos.LMARGIN, new_y=YPos.NEXT, wrapmode=wrap, align=Align.L)


def _add_entry(page: _Page, entry: Entry) -> None:
    picture, finding, result = entry.picture, entry.finding, entry.result
    page.heading(f"Picture {picture.number}: {picture.file_name}")
    if result:
        page.picture(result.picture, PICTURE)
    page.text_block(f"Prompt: {picture.prompt or 'none was given'}", f"SHA-256: {picture.sha256}")
    page.text_block(*map(_signal, entry.signals_of(picture.sha256)))
    page.heading("What people decided", 11)
    page.text_block(*(map(decision_as_text, entry.decisions) if entry.decisions else ["Nothing yet."]))
    page.heading("What the machine found", 11)
    if finding is None or result is None:
        page.text_block("Not examined.")
        return
    page.text_block(f"{finding.verdict} Answered {finding.answered_at} by {result.record.method.name}.")
    for match in entry.shown:
        _add_match(page, entry, match)
    index = result.record.index
    page.text_block(
        f"Listed in full: {len(finding.matches)} of {index.trained} training images. Model {finding.model}, index "
        f"{finding.index_fingerprint}, {index.draws} draws from seed {index.draw_seed}, record {finding.record_sha256}."
    )


def _add_match(page: _Page, entry: Entry, match: FoundMatch) -> None:
    if match.example_id in entry.thumbnails:
        page.picture(entry.thumbnails[match.example_id], THUMBNAIL)
    stands_out = {True: "stands out", False: "does not stand out", None: "not known whether it stands out"}
    page.text_block(
        f"{match.rank} (range {match.best_rank}–{match.worst_rank}): {match.caption} [{match.example_id}], score "
        f"{match.score:.1f}, {stands_out[match.stands_out]}, similarity {match.similarity:.2f}",
        *(map(_signal, entry.signals_of(match.sha256))),
    )


def _signal(signal: Signal) -> str:
    return f"– {signal.name}: {signal.value} ({signal.read_from}, read {signal.read_at})"
