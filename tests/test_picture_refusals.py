"""Files that are no picture, or a damaged one."""

from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from PIL import Image

from forwardinf.errors import UnreadablePicture
from forwardinf.examples.decoding import read_picture
from picture_files import FORMATS, file_of, gradient, here

HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic"
REFUSED = {
    b"": "is empty",
    b"\x89PNG": "ends after 4 bytes",
    b"just some words, saved as cat.png\n" * 9: "is text, not a picture, whatever its file name says",
    "Ein Text mit Umläuten: ".encode() + "ä".encode() * 5000: "is text",
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>': "is an SVG drawing.*Export it as PNG",
    b"<!DOCTYPE html><html><body>404</body></html>": "is a web page",
    b"%PDF-1.7\n%\xe2\xe3": "is a PDF document",
    HEIC: "is a HEIC picture, which is not read. Export it as JPEG or PNG",
    struct.pack(">I", 20) + b"ftypisom\0\0\0\0mp42": "is a video",
    b"8BPS\0\1": "is a Photoshop document",
    b"PK\3\4" + bytes(40): "is a ZIP archive",
    b"\0\0\1\0\1\0": "is a Windows icon",
    b"II*\0\x10\0\0\0CR\2\0": "raw file",
    b"BM" + bytes(60): "is in a format that is not read. Use PNG, JPEG",
    bytes(range(256)): "is in a format that is not read",
}


@pytest.mark.parametrize(("data", "message"), REFUSED.items(), ids=range(len(REFUSED)))
def test_other_files_are_refused_by_what_they_are(data: bytes, message: str) -> None:
    with pytest.raises(UnreadablePicture, match=message):
        read_picture(data)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(UnreadablePicture, match=r"“big\.png” has 30\.1 MB; at most 30 MB are read"):
        read_picture(file_of(gradient()) + bytes(30_100_000), name="big.png")


# What is refused while decoding


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 1), "is 1 × 1 pixels; the shorter side must have at least 8"),
        ((1, 5000), "is 1 × 5,000 pixels; the shorter side"),
        ((600, 7), "is 600 × 7 pixels; the shorter side"),
        ((8, 65), "is 8 × 65 pixels, longer than 8 to 1"),
    ],
)
def test_shapes_of_which_nothing_would_be_left_are_refused(size: tuple[int, int], message: str) -> None:
    with pytest.raises(UnreadablePicture, match=message):
        here(file_of(Image.new("RGB", size)))


def test_the_smallest_and_the_longest_shape_are_read() -> None:
    assert here(file_of(Image.new("RGB", (8, 8)))).rgb.size == (8, 8)
    assert here(file_of(Image.new("RGB", (64, 8)))).rgb.size == (64, 8)


def test_a_picture_with_nothing_to_see_is_refused() -> None:
    with pytest.raises(UnreadablePicture, match="is entirely transparent"):
        here(file_of(Image.new("RGBA", (9, 9))))
    with pytest.raises(UnreadablePicture, match="has no finite value"):
        here(file_of(Image.new("F", (9, 9), float("nan")), "TIFF"))


def test_a_raw_file_or_preview_is_not_taken_for_the_picture() -> None:
    with pytest.raises(UnreadablePicture, match="raw file, or a TIFF that begins with a preview"):
        here(file_of(gradient(), "TIFF", tiffinfo={254: 1}))


def test_a_tiff_of_a_rare_kind_says_so() -> None:
    data = bytearray(file_of(gradient(), "TIFF"))
    at = data.index(struct.pack("<HH", 258, 3))  # bits per sample, of a value that no reader knows
    struct.pack_into("<HHII", data, at, 258, 3, 1, 7)
    with pytest.raises(UnreadablePicture, match="begins as TIFF, but is damaged or of a rare kind"):
        here(bytes(data))


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_in_half_is_refused(format: str) -> None:
    data = file_of(gradient(64, 48), format)
    with pytest.raises(UnreadablePicture, match=f"{format}, but"):
        here(data[: len(data) // 2])


def test_an_animation_whose_first_frame_is_broken_is_refused() -> None:
    frames = [gradient(64, 64), Image.new("RGB", (64, 64), "red")]
    data = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    at = data.index(b"VP8L") + 12
    with pytest.raises(UnreadablePicture, match="is WEBP, but"):
        here(data[:at] + b"\xff" * 60 + data[at + 60 :])


@pytest.mark.parametrize("format", FORMATS)
def test_damage_gives_a_picture_or_a_named_refusal(format: str) -> None:
    chance = random.Random(format)
    whole = file_of(gradient(40, 30), format)
    for round in range(60):
        data = bytearray(whole[: chance.randrange(len(whole))] if round % 3 == 0 else whole)
        for _ in range(0 if round % 3 == 0 else chance.randint(1, 6)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with suppress(UnreadablePicture):  # and nothing else
            assert here(bytes(data)).rgb.mode == "RGB"


@pytest.mark.parametrize("format", FORMATS)
def test_damage_in_the_child_too(format: str) -> None:
    data = bytearray(file_of(gradient(40, 30), format))
    data[len(data) // 3] ^= 0x5A
    with suppress(UnreadablePicture):
        assert read_picture(bytes(data)).format == format
