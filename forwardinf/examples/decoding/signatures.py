"""What a file is, judged by its first bytes: a format that is read, or a refusal that says what it is instead."""

from __future__ import annotations

import codecs

from ...errors import UnreadablePicture

READ = "PNG, JPEG, WebP, GIF, TIFF, BMP or AVIF"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes of the header that follows “BM”, byte 14 on

# Not read, but named in the refusal.
_OTHERS = (
    (b"%PDF", "a PDF document", "Export the page as PNG and use that."),
    (b"%!PS", "a PostScript document", "Export it as PNG and use that."),
    (b"8BPS", "a Photoshop document", "Export it as PNG and use that."),
    (b"PK\x03\x04", "a ZIP archive or an office document", "Take the picture out of it first."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", "Export it as 16-bit PNG and use that."),
    (b"#?RADIANCE", "a Radiance HDR picture", "Export it as 16-bit PNG and use that."),
    (b"\xff\x0a", "a JPEG XL picture", "Export it as PNG and use that."),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", "Export it as PNG and use that."),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", "Export it as PNG and use that."),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", "Export it as PNG and use that."),
    (b"\0\0\x01\0", "a Windows icon", "Export it as PNG and use that."),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", "Export it as JPEG and use that."),
    (b"\x1aE\xdf\xa3", "a video", "Export one frame as PNG and use that."),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def format_of(data: bytes) -> str:
    """Pillow's name for the format of `data`; raises UnreadablePicture saying what it is if it is not read."""
    if not data:
        raise UnreadablePicture("is empty: 0 bytes arrived. Choose the file again.")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            _refuse_raw(data)
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp":
        return _format_in_container(data)
    raise UnreadablePicture(_what_else(data))


def _refuse_raw(data: bytes) -> None:
    if data[:4] == b"II*\0" and data[8:10] == b"CR":
        raise UnreadablePicture("is a camera's raw file (CR2), which is not read. Export it as JPEG and use that.")


def _format_in_container(data: bytes) -> str:
    """AVIF, HEIC and MP4 share a container; its first box lists the brands."""
    length = min(int.from_bytes(data[:4], "big"), 256, len(data))
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, length - 3, 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        raise UnreadablePicture("is a HEIC picture, which is not read. Export it as JPEG or PNG and use that.")
    raise UnreadablePicture("is a video, which is not read. Export one frame as PNG and use that.")


def _what_else(data: bytes) -> str:
    for magic, what, remedy in _OTHERS:
        if data.startswith(magic):
            return f"is {what}, which is not read. {remedy}"
    if len(data) < 12 and any(magic.startswith(data[: len(magic)]) for magic, _ in (*_MAGIC, (b"RIFF", ""))):
        return f"ends after {len(data)} bytes, before the picture begins. Fetch or export it again."
    text = _as_text(data[:4096])
    if text is None:
        return f"is in a format that is not read. Use {READ}."
    if "<svg" in text:
        return "is an SVG drawing, which is not read because it can load other files. Export it as PNG and use that."
    what = "a web page" if "<html" in text or "<!doctype html" in text else "text"
    return f"is {what}, not a picture, whatever its file name says. Use {READ}."


def _as_text(head: bytes) -> str | None:
    if any(byte < 9 or 13 < byte < 32 for byte in head):
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head).lower()  # the last character may be cut in two
    except UnicodeDecodeError:
        return None
