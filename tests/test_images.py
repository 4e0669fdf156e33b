"""Every file here is made on the spot: ordinary ones of every format, odd ones, and hostile ones."""

from __future__ import annotations

import hashlib
import random
import resource
import signal
import struct
import sys
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from forwardinf.errors import UnreadablePicture
from forwardinf.examples import decoding as images
from forwardinf.examples.decoding import colour, read_picture, to_square
from forwardinf.examples.decoding.decoder import Decoded, decode
from forwardinf.examples.decoding.signatures import format_of

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"] + ["AVIF"] * features.check("avif")


def here(data: bytes) -> Decoded:
    """What the child does, in this process."""
    return decode(data, format_of(data))


def file_of(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 10, y * 15, 255 - x * 5], axis=-1).astype(np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: np.ndarray, colour_type: int, bits: int, *extra: bytes) -> bytes:
    """A PNG that Pillow could not write; `values` [h w] or [h w c], of 8 or 16 bits."""
    rows = values.astype(">u2" if bits == 16 else "u1")
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour_type, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def zeros_png(width: int, height: int) -> bytes:
    """A small file of a huge black picture."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def uniform(*colour: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint16), (size[1], size[0], len(colour)))


# In the child process


def test_an_ordinary_picture_keeps_its_pixels_and_its_hash() -> None:
    data = file_of(gradient())
    picture = read_picture(data)
    assert picture.rgb.mode == "RGB"
    assert np.array_equal(picture.rgb, gradient())
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert (picture.format, picture.original_size, picture.original_mode) == ("PNG", (24, 16), "RGB")
    assert picture.notes == ()


def test_the_child_answers_as_decoding_here_does() -> None:
    data = file_of(Image.new("I;16", (20, 10), 32896), "TIFF")
    picture, decoded = read_picture(data), here(data)
    assert np.array_equal(picture.rgb, decoded.rgb)
    assert (picture.original_size, picture.original_mode) == (decoded.size, decoded.mode) == ((20, 10), "I;16")
    assert picture.notes == decoded.notes


def test_a_refusal_names_the_file_without_its_folder_or_control_characters() -> None:
    with pytest.raises(UnreadablePicture, match=r"^“cat\.png” is PNG, but ends before the picture is complete\. Fetch"):
        read_picture(file_of(gradient())[:60], name="/home/someone/ca\x1bt.png")
    with pytest.raises(UnreadablePicture, match=r"^“x{60}…x{11}\.png” is empty"):
        read_picture(b"", name="x" * 500 + ".png")


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


def test_a_bomb_in_a_text_chunk_is_refused() -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    with pytest.raises(UnreadablePicture, match="is PNG, but is damaged"):
        read_picture(png(uniform(1, 2, 3), 2, 8, text))


def test_the_child_imports_neither_numpy_nor_torch_for_an_ordinary_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    command = images._command("PNG")
    start = command.index("-c") + 1
    command[start] += "; assert not {'torch', 'gradio', 'numpy', 'site'} & set(sys.modules), sorted(sys.modules)"
    monkeypatch.setattr(images, "_command", lambda format: command)
    read_picture(file_of(gradient()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_a_child_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    command = images._command("PNG")
    start = command.index("-c") + 1
    command[start] = command[start].replace(
        "; main(", "; import forwardinf.examples.decoding.decoder as d; d._MEMORY = 1 << 27; main("
    )
    monkeypatch.setattr(images, "_command", lambda format: command)
    with pytest.raises(UnreadablePicture, match="needs too much memory to decode"):
        read_picture(zeros_png(6000, 6000))


def child_that(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_command", lambda format: [sys.executable, "-I", "-S", "-c", code])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", rf"its decoder was stopped \(signal {int(signal.SIGKILL)}\)"),
        ("import os; os.kill(os.getpid(), 11)", r"its decoder was stopped \(signal 11\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "it takes too much computing time"),
        ("raise SystemExit(3)", "its decoder failed"),
        ("", "gave no usable answer"),
        ("print('[' * 60000)", "gave no usable answer"),
        ("print('7')", "gave no usable answer"),
        ("""print('{"rgb_size": [9, 9], "size": [9, 9], "mode": "RGB", "notes": []}\\nabc')""", "no usable answer"),
        ("""print('{"rgb_size": [90000, 90000], "size": [9, 9], "mode": "RGB", "notes": []}')""", "no usable answer"),
        ("""print('{"refused": "' + 'x' * 99999 + '"}')""", "x{500}$"),
    ],
)
def test_a_child_that_dies_or_talks_nonsense_is_a_named_refusal(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_that(code, monkeypatch)
    with pytest.raises(UnreadablePicture, match=message):
        read_picture(file_of(gradient()))


def test_a_child_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    child_that("import time; time.sleep(60)", monkeypatch)
    monkeypatch.setattr(images, "TIMEOUT", 0.3)
    with pytest.raises(UnreadablePicture, match=r"took longer than 0\.3 seconds to decode"):
        read_picture(file_of(gradient()))


def test_the_child_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    child_that("import os, json; print(json.dumps({'refused': ' '.join(os.environ)}))", monkeypatch)
    with pytest.raises(UnreadablePicture) as caught:
        read_picture(file_of(gradient()))
    assert "HF_TOKEN" not in str(caught.value)


# What is refused before any decoding

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


# What is converted, pixel by pixel


def pixel_and_notes(data: bytes) -> tuple[tuple[int, ...], tuple[str, ...]]:
    decoded = here(data)
    assert decoded.rgb.mode == "RGB"
    return decoded.rgb.getpixel((3, 3)), decoded.notes


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read(format: str) -> None:
    decoded = here(file_of(Image.new("RGB", (16, 16), (200, 100, 50)), format))
    assert np.abs(np.asarray(decoded.rgb).astype(int) - (200, 100, 50)).max() <= 3
    assert decoded.size == (16, 16)


GREY = "greyscale written as RGB"
CASES = {
    "1": (file_of(Image.new("1", (9, 9), 1)), (255,) * 3, ("1-bit black and white written as RGB",)),
    "L": (file_of(Image.new("L", (9, 9), 77)), (77,) * 3, (GREY,)),
    "LA": (file_of(Image.new("LA", (9, 9), (100, 51))), (224,) * 3, (GREY, "transparent parts placed on white")),
    "RGBA": (
        file_of(Image.new("RGBA", (9, 9), (255, 0, 0, 51))),
        (255, 204, 204),
        ("transparent parts placed on white",),
    ),
    "opaque": (
        file_of(Image.new("RGBA", (9, 9), (9, 8, 7, 255))),
        (9, 8, 7),
        ("alpha channel left out: no part is transparent",),
    ),
    "grey 16": (file_of(Image.new("I;16", (9, 9), 32896)), (128,) * 3, ("16-bit greyscale scaled to 8 bits", GREY)),
    "dark 16": (
        file_of(Image.new("I;16", (9, 9), 2570)),
        (10,) * 3,
        ("16-bit greyscale scaled to 8 bits", "it is very dark: its brightest value is 2,570 of 65,535", GREY),
    ),
    "RGB 16": (png(uniform(0x80FF, 0, 0xFFFF), 2, 16), (128, 0, 255), ("16-bit colour reduced to 8 bits",)),
    "RGBA 16": (
        png(uniform(0, 0, 0, 0x3333), 6, 16),
        (204,) * 3,
        ("16-bit colour reduced to 8 bits", "transparent parts placed on white"),
    ),
    "CMYK TIFF": (
        file_of(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "TIFF"),
        (255, 0, 0),
        ("CMYK converted to RGB without a profile, so colours are approximate",),
    ),
    "float 0..1": (
        file_of(Image.new("F", (9, 9), 0.25), "TIFF"),
        (64,) * 3,
        ("floating-point values in 0..1 scaled to 8 bits", GREY),
    ),
    "float flat": (
        file_of(Image.new("F", (9, 9), 5.0), "TIFF"),
        (255,) * 3,
        ("floating-point values from 5 to 5 clipped to 0..1, then scaled to 8 bits", GREY),
    ),
    "int": (
        file_of(Image.new("I", (9, 9), 200), "TIFF"),
        (200,) * 3,
        ("32-bit integer values in 0..255 scaled to 8 bits", GREY),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_mode_is_converted_exactly_and_says_so(case: str) -> None:
    data, pixel, notes = CASES[case]
    assert pixel_and_notes(data) == (pixel, notes)


def test_a_palette_with_transparency() -> None:
    picture = Image.new("P", (9, 9), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 0)
    decoded = here(file_of(picture, transparency=0))
    assert decoded.rgb.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.rgb.getpixel((3, 3)) == (0, 0, 255)
    assert decoded.notes == ("palette colours written as RGB", "transparent parts placed on white")


@pytest.mark.parametrize(
    ("colour_type", "bits", "values", "transparent"),
    [
        (0, 16, uniform(257 * 40)[..., 0], struct.pack(">H", 65535)),
        (0, 8, uniform(40)[..., 0], struct.pack(">H", 255)),
        (2, 16, uniform(257 * 40, 257 * 40, 257 * 40), struct.pack(">3H", 65535, 65535, 0)),
        (2, 8, uniform(40, 40, 40), struct.pack(">3H", 255, 255, 0)),
    ],
)
def test_one_transparent_colour(colour_type: int, bits: int, values: np.ndarray, transparent: bytes) -> None:
    values = values.copy()
    values[0, 0] = np.frombuffer(transparent, ">u2").squeeze()
    decoded = here(png(values, colour_type, bits, chunk(b"tRNS", transparent)))
    assert decoded.rgb.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.rgb.getpixel((3, 3)) == (40, 40, 40)
    assert "transparent parts placed on white" in decoded.notes


def test_the_transparent_grey_of_a_2_bit_picture() -> None:
    packed = np.full((8, 2), 0b00_01_00_00, np.uint8)  # four pixels a byte
    header = struct.pack(">IIBBBBB", 8, 8, 2, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in packed))
    chunks = [chunk(b"IHDR", header), chunk(b"tRNS", b"\0\1"), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    decoded = here(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert [decoded.rgb.getpixel((x, 0))[0] for x in range(4)] == [0, 255, 0, 0]


HIGHLIGHTS = [0.0, 0.5, 3.0] + [0.5] * 197
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        (HIGHLIGHTS, {0, 128, 255}, "values from 0 to 3 clipped to 0..1"),
        ([0.0, 100.0, 200.0], {0, 128, 255}, "values from 0 to 200 stretched onto 0..255"),
        ([-100.0, 0.0, 100.0], {0, 128, 255}, "values from -100 to 100 stretched onto 0..255"),
        ([NAN, 0.25, 0.5], {64, 128}, "144 values that are not finite numbers replaced"),
        ([INF, -INF, 0.25, 0.5], {64, 128}, "216 values that are not finite numbers replaced"),
    ],
)
def test_floats_beyond_display_values(values: list[float], expected: set[int], note: str) -> None:
    row = np.resize(np.array(values, np.float32), max(12, len(values)))
    decoded = here(file_of(Image.fromarray(np.tile(row, (36, 1))), "TIFF"))
    assert set(np.unique(decoded.rgb).tolist()) == expected
    assert any(note in sentence for sentence in decoded.notes)


def test_integers_beyond_16_bits_are_stretched() -> None:
    pixels = np.tile(np.array([[-70000, 0, 70000]], np.int32), (9, 3))
    decoded = here(file_of(Image.fromarray(pixels), "TIFF"))
    assert np.asarray(decoded.rgb)[0, :3, 0].tolist() == [0, 128, 255]
    assert decoded.notes[0] == "32-bit integer values from -70000 to 70000 stretched onto 0..255"


def test_cmyk_jpegs_are_stored_inverted_and_read_the_right_way_round() -> None:
    data = file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    pixel, notes = pixel_and_notes(data)
    assert np.abs(np.array(pixel) - (255, 0, 0)).max() <= 3
    assert notes == ("CMYK converted to RGB without a profile, so colours are approximate",)


def profile(description: str = "sRGB") -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(description)).tobytes()


def swapped_profile() -> bytes:
    """sRGB with its red and blue primaries exchanged."""
    data = profile()
    return data.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def test_an_embedded_profile_is_applied_and_says_so() -> None:
    pixel, notes = pixel_and_notes(file_of(Image.new("RGB", (9, 9), (255, 0, 0)), icc_profile=swapped_profile()))
    assert np.abs(np.array(pixel) - (0, 0, 255)).max() <= 3
    assert notes == ("colours converted to sRGB with its embedded profile",)


def test_an_embedded_profile_applies_under_transparency() -> None:
    picture = Image.new("RGBA", (9, 9), (255, 0, 0, 51))
    pixel, notes = pixel_and_notes(file_of(picture, icc_profile=swapped_profile()))
    assert np.abs(np.array(pixel) - (204, 204, 255)).max() <= 3
    assert notes == ("colours converted to sRGB with its embedded profile", "transparent parts placed on white")


def test_an_srgb_profile_changes_no_pixel() -> None:
    decoded = here(file_of(gradient(), icc_profile=profile()))
    assert np.array_equal(decoded.rgb, gradient())
    assert decoded.notes == ()


@pytest.mark.parametrize("icc", [b"not a profile", profile("LAB"), swapped_profile()[:200]])
def test_an_unusable_profile_is_left_out_and_says_so(icc: bytes) -> None:
    decoded = here(file_of(gradient(), icc_profile=icc))
    assert np.array_equal(decoded.rgb, gradient())
    assert decoded.notes == ("its embedded colour profile cannot be used and was left out",)


def test_a_profile_for_other_colours_is_never_applied() -> None:
    notes: list[str] = []
    colour._in_srgb(Image.new("CMYK", (9, 9)), profile(), notes)
    assert notes[0] == "its embedded colour profile cannot be used and was left out"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_pictures_are_turned_as_exif_asks(format: str, orientation: int) -> None:
    picture = Image.new("RGB", (32, 16), "black")
    picture.paste("white", (0, 0, 8, 16))  # left
    exif = Image.Exif()
    exif[274] = orientation
    decoded = here(file_of(picture, format, exif=exif))
    brightness = np.asarray(decoded.rgb.convert("L")).astype(float)
    where = {2: brightness[:, -4:], 3: brightness[:, -4:], 6: brightness[:4], 8: brightness[-4:]}[orientation]
    assert where.min() > 240
    assert brightness.mean() < 80
    assert decoded.size == (32, 16)
    assert decoded.rgb.size == ((32, 16) if orientation < 5 else (16, 32))
    assert any(note.startswith("mirrored" if orientation == 2 else "rotated") for note in decoded.notes)


def test_unreadable_exif_does_not_cost_the_picture() -> None:
    assert np.array_equal(here(file_of(gradient(), exif=b"Exif\0\0nonsense")).rgb, gradient())


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_only_the_first_frame_is_used_and_says_so(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    pixel, notes = pixel_and_notes(file_of(frames[0], format, save_all=True, append_images=frames[1:], **options))
    assert pixel == (255, 0, 0)
    assert notes[0] == ("first of 3 pages used" if format == "TIFF" else "first of 3 frames used")


def test_colour_tags_that_are_not_applied_are_named() -> None:
    pq = chunk(b"cICP", bytes([9, 16, 0, 1]))
    assert "primaries 9 and transfer 16 (HDR, PQ), was not applied" in here(png(uniform(1, 2, 3), 2, 8, pq)).notes[0]
    linear = chunk(b"gAMA", struct.pack(">I", 100_000))
    assert here(png(uniform(1, 2, 3), 2, 8, linear)).notes == ("its gamma tag of 1 was not applied: read as sRGB",)


@pytest.mark.parametrize(
    ("size", "reduced"), [((1024, 1000), (1024, 1000)), ((2048, 1000), (1024, 500)), ((300, 1500), (205, 1024))]
)
def test_large_pictures_cross_over_small(size: tuple[int, int], reduced: tuple[int, int]) -> None:
    decoded = here(file_of(Image.new("RGB", size, "teal")))
    assert (decoded.size, decoded.rgb.size) == (size, reduced)
    assert decoded.rgb.getextrema() == ((0, 0), (128, 128), (128, 128))
    assert [note.startswith("reduced from") for note in decoded.notes] == [True] * (size != reduced)


# The model's input


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_training_picture_gives_what_training_saw() -> None:
    assert np.array_equal(to_square(noise(64, 64), 64), noise(64, 64))
    boxed = noise(128, 128).resize((64, 64), Image.Resampling.BOX)
    assert np.array_equal(to_square(noise(128, 128), 64), boxed)
    decoded = here(file_of(noise(128, 128), "WEBP", lossless=True))
    assert np.array_equal(to_square(decoded.rgb, 64), boxed)


@pytest.mark.parametrize(("size", "side"), [((100, 100), 64), ((30, 30), 64), ((200, 50), 64), ((9, 64), 64)])
def test_any_other_picture_becomes_square_the_same_way_each_time(size: tuple[int, int], side: int) -> None:
    square = to_square(noise(*size), side)
    assert (square.mode, square.size) == ("RGB", (side, side))
    assert np.array_equal(square, to_square(noise(*size), side))


def test_what_is_not_square_is_centred_on_white() -> None:
    square = np.asarray(to_square(Image.new("RGB", (64, 32), "black"), 64))
    assert set(square[:16].ravel()) == set(square[48:].ravel()) == {255}
    assert set(square[16:48].ravel()) == {0}
