"""What a picture becomes, pixel by pixel, and what the notes say of it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from forwardinf.examples.decoding import colour, to_square
from picture_files import FORMATS, chunk, file_of, gradient, here, png, uniform


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
