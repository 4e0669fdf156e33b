"""JPEG: its scans are counted before it is decoded, and libjpeg's warnings are heard.

A progressive JPEG refines the picture scan by scan, and each scan costs a pass over all of it, though it may have but
ten bytes: a file of 430 kB with 3,000 scans takes 20 seconds.
https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf
"""

from __future__ import annotations

import re

from ...errors import UnreadablePicture
from .container import Container, too_many
from .limits import EXPORT_AS_PNG

# libjpeg's and mozjpeg's progressive files have 10 to 20 scans. Two passes per bit (8) and component (4) are 64.
MAX_SCANS = 100
MAX_SEGMENTS = 20_000

# The next marker, in coded data or between segments; 00, 01 and the restarts D0 to D7 are none that matters.
_MARKER = re.compile(rb"\xff+([^\xff\x00\x01\xd0-\xd7])")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA

# libjpeg's warnings of damage; others are of what TurboJPEG cannot do, and Pillow can.
_DAMAGE = ("Corrupt JPEG data", "Premature end", "Inconsistent progression", "Invalid SOS parameters")


def open_jpeg(data: bytes) -> Container:
    """The file as it is; raises UnreadablePicture if it would take long to decode."""
    scans = sum(marker == _SCAN for marker in _markers(data))
    if scans > MAX_SCANS:
        message = f"is a JPEG of {scans:,} scans; at most {MAX_SCANS} are read, as each takes a pass over the picture."
        raise UnreadablePicture(f"{message} {EXPORT_AS_PNG}")
    return Container(data, has_profile=b"ICC_PROFILE\0" in data)


def _markers(data: bytes) -> list[int]:
    """Those of the first picture in the file, without those inside segments, such as a thumbnail's."""
    markers: list[int] = []
    at = 2
    while (found := _MARKER.search(data, at)) and found[1][0] != _END:
        if len(markers) == MAX_SEGMENTS:
            raise too_many("segments", MAX_SEGMENTS)
        markers.append(found[1][0])
        at = found.end()
        if found[1][0] != _START:
            at += int.from_bytes(data[at : at + 2], "big")
    return markers


def damage_in_jpeg(data: bytes, mode: str) -> list[str]:
    """A note of the first damage that libjpeg works around while decoding, which Pillow does not report.

    Decodes the file a second time, at an eighth of its size.
    """
    import simplejpeg

    colours = "CMYK" if mode == "CMYK" else "GRAY"
    try:
        simplejpeg.decode_jpeg(data, colours, fastdct=True, fastupsample=True, min_factor=8, strict=True)
    except ValueError as warning:
        what = str(warning)
        if what.startswith(_DAMAGE) and "ICC" not in what:  # a profile that cannot be used has a note already
            detail = what.removeprefix("Corrupt JPEG data: ")
            return [f"it is damaged, so parts of it may differ from the original ({detail})"]
    return []
