"""Small files that would take long to decode: each is refused, or read, at little cost."""

from __future__ import annotations

import resource
import struct
import time
import zlib

import pytest
from PIL import Image

from forwardinf.errors import UnreadablePicture
from forwardinf.examples.decoding import read_picture
from picture_files import chunk, file_of, gradient, here, png, uniform, zeros_png


def test_a_bomb_is_refused_quickly_and_out_of_this_process() -> None:
    bomb = zeros_png(12_000, 10_000)
    assert len(bomb) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(UnreadablePicture, match=r"has 120 megapixels; at most 40 are read\. Save it smaller"):
        read_picture(bomb)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 20_000  # KB on Linux; 120 Mpx would be 120,000
    assert after.ru_utime - before.ru_utime < 1


def test_a_huge_webp_is_refused_by_its_size() -> None:
    small = Image.new("RGB", (16, 16), "red")
    vp8 = bytearray(file_of(small, "WEBP"))
    struct.pack_into("<HH", vp8, 26, 16383, 16383)
    vp8l = bytearray(file_of(small, "WEBP", lossless=True))
    struct.pack_into("<I", vp8l, 21, 16382 | 16382 << 14)
    vp8x = bytearray(file_of(small, "WEBP", xmp=b"<x/>"))
    vp8x[24:30] = struct.pack("<I", 16382)[:3] * 2
    for data in (vp8, vp8l, vp8x):
        with pytest.raises(UnreadablePicture, match="has 268 megapixels"):
            here(bytes(data))


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `count`."""
    data = file_of(gradient(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    present = data.count(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - present + 1) + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused_by_their_number() -> None:
    with pytest.raises(UnreadablePicture, match="is a JPEG of 3,000 scans; at most 100 are read"):
        here(with_scans(3000))
    with pytest.raises(UnreadablePicture, match="is a JPEG of 101 scans"):
        here(with_scans(101))


def test_a_jpeg_of_many_scans_costs_less_than_a_second() -> None:
    bomb = with_scans(3000)
    before = time.process_time()
    with pytest.raises(UnreadablePicture):
        here(bomb)
    assert time.process_time() - before < 1


@pytest.mark.parametrize("inside", [b"\xff\xda" * 5000, b"\xff\xd9", b"\xff\xd8\xff\xda"])
def test_only_scans_of_the_picture_are_counted(inside: bytes) -> None:
    """Not what looks like one within a segment, such as a thumbnail or a profile, nor what follows the end."""
    segment = b"\xff\xe5" + struct.pack(">H", 2 + len(inside)) + inside
    data = file_of(gradient(), "JPEG")
    assert here(data[:2] + segment + data[2:] + inside).notes == here(data).notes == ()
    bomb = with_scans(101)
    with pytest.raises(UnreadablePicture, match="101 scans"):
        here(bomb[:2] + segment + bomb[2:])


def with_comments(count: int) -> bytes:
    data = file_of(gradient(), "JPEG")
    return data[:2] + b"\xff\xfe\0\2" * count + data[2:]


def animation(format: str) -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    return file_of(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)


def webp_of(frames: int) -> bytes:
    data = animation("WEBP")
    last = data.rindex(b"ANMF")
    body = data[8:] + data[last:] * (frames - 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of(frames: int) -> bytes:
    data = file_of(Image.new("P", (16, 16)), "GIF")
    frame = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    return data[:-1] + frame * (frames - 1) + b";"


def apng_of(frames: int) -> bytes:
    data = animation("PNG")
    control = data.rindex(b"fcTL") - 4
    end = data.rindex(b"IEND") - 4
    return data[:end] + data[control:end] * (frames - 2) + data[end:]


def tiff_of(pages: int) -> bytes:
    """A picture, and pages that consist of one tag."""
    data = file_of(gradient(16, 16), "TIFF")
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    starts = [len(data) + 18 * number for number in range(pages - 1)]
    more = b"".join(struct.pack("<HHHIII", 1, 256, 4, 1, 16, start) for start in [*starts[1:], 0])
    return data[:after] + struct.pack("<I", starts[0]) + data[after + 4 :] + more


def test_of_many_frames_only_the_first_costs_anything() -> None:
    many = ((webp_of(3000), "frames"), (gif_of(3000), "frames"), (apng_of(3000), "frames"), (tiff_of(3000), "pages"))
    for data, what in many:
        before = time.process_time()
        assert here(data).notes[0] == f"first of 3,000 {what} used"
        assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (webp_of(10_001), "has more than 10,000 frames"),
        (gif_of(10_001), "has more than 10,000 frames"),
        (apng_of(15_001), "has more than 30,000 chunks"),
        (tiff_of(10_001), "has more than 10,000 pages"),
        (with_comments(20_001), "has more than 20,000 segments"),
        (png(uniform(1, 2, 3), 2, 8, *[chunk(b"tEXt", b"")] * 30_000), "has more than 30,000 chunks"),
    ],
    ids=["WebP", "GIF", "APNG", "TIFF", "JPEG", "PNG"],
)
def test_more_parts_than_any_picture_needs_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(UnreadablePicture, match=message):
        here(data)


def test_a_tiff_whose_pages_go_in_a_circle_is_read() -> None:
    data = bytearray(tiff_of(2))
    data[-4:] = data[4:8]
    assert here(bytes(data)).notes == ("first of 2 pages used",)


def test_a_tiff_of_too_many_strips_is_refused() -> None:
    data = bytearray(file_of(gradient(), "TIFF"))
    at = data.index(struct.pack("<HH", 273, 4))
    struct.pack_into("<I", data, at + 4, 200_001)
    with pytest.raises(UnreadablePicture, match="has more than 200,000 strips"):
        here(bytes(data))


def test_comments_in_a_gif_cost_nothing() -> None:
    data = file_of(Image.new("P", (16, 16)), "GIF")
    image = data.index(b",")
    comment = b"!\xfe" + (b"\xff" + b"a" * 255) * 40_000 + b"\0"
    before = time.process_time()
    assert here(data[:image] + comment + data[image:]).notes == here(data).notes
    assert time.process_time() - before < 1
    with pytest.raises(UnreadablePicture, match="has more than 1,000,000 data blocks"):
        here(data[:image] + b"!\xfe" + b"\1a" * 1_000_001 + b"\0" + data[image:])


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"eXIf"])
def test_what_is_not_pixels_may_be_huge_without_costing_the_picture(kind: bytes) -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    bodies = {
        b"zTXt": b"Comment\0\0" + bomb,
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + bomb,
        b"iCCP": b"profile\0\0" + bomb,
        b"eXIf": bytes(5_000_000),
    }
    decoded = here(png(uniform(1, 2, 3), 2, 8, chunk(kind, bodies[kind])))
    assert decoded.rgb.getpixel((3, 3)) == (1, 2, 3)
    notes = {
        b"iCCP": ("its embedded colour profile cannot be used and was left out",),
        b"eXIf": ("its EXIF cannot be read, so it was not turned",),
    }
    assert decoded.notes == notes.get(kind, ())


def test_more_pixel_data_than_the_size_needs_is_not_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    packed = chunk(b"IDAT", zlib.compress(bytes(100_000_000), 9))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + packed + chunk(b"IEND", b"")
    assert here(data).notes[-1] == "it holds more pixel data than its size needs; the rest was left out"
