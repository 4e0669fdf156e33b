"""Damage that a checksum or a library can tell is never passed over in silence."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from forwardinf.errors import UnreadablePicture
from forwardinf.examples.decoding import decoder
from picture_files import adam7, chunk, file_of, gradient, here, png, uniform

TURNED = Image.Exif()
TURNED[274] = 6
SMALL = gradient(12, 8)
PALETTE = SMALL.quantize(8)
GAMMA = chunk(b"gAMA", b"\0\0\xb1\x8f")
PNGS = {
    "grey": file_of(SMALL.convert("L")),
    "RGB": file_of(SMALL),
    "RGBA": file_of(SMALL.convert("RGBA")),
    "palette": file_of(PALETTE, transparency=3),
    "16 bits": file_of(Image.fromarray(np.asarray(SMALL.convert("L")).astype(np.uint16) * 257)),
    "interlaced": adam7(np.asarray(SMALL)),
    "EXIF": file_of(SMALL, exif=TURNED),
    "gamma and text": png(
        uniform(9, 8, 7), 2, 8, chunk(b"gAMA", b"\0\0\xb1\x8f"), chunk(b"tEXt", b"parameters\0a red apple")
    ),
}


@pytest.mark.parametrize("kind", PNGS)
def test_no_flipped_bit_of_a_png_gives_another_picture_without_a_note(kind: str) -> None:
    whole = PNGS[kind]
    expected = here(whole)
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        try:
            decoded = here(bytes(data))
        except UnreadablePicture:
            continue
        is_same = decoded.rgb.size == expected.rgb.size and decoded.rgb.tobytes() == expected.rgb.tobytes()
        assert is_same or set(decoded.notes) - set(expected.notes), f"bit {bit}"


def with_damaged(name: bytes, data: bytes) -> bytes:
    """With a wrong checksum of the first chunk of that name."""
    start = data.index(name)
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    return data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :]


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"iCCP"])
def test_a_damaged_chunk_that_decides_pixels_is_a_refusal_that_names_it(name: bytes) -> None:
    picture = file_of(PALETTE, transparency=3, icc_profile=b"profile")
    picture = picture[:33] + GAMMA + picture[33:]
    here(picture)
    with pytest.raises(UnreadablePicture, match=f"damaged: the checksum of its chunk “{name.decode()}” is wrong"):
        here(with_damaged(name, picture))


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"eXIf", b"caBX"])
def test_a_damaged_chunk_that_decides_no_pixel_is_a_note_that_names_it(name: bytes) -> None:
    decoded = here(with_damaged(name, png(uniform(1, 2, 3), 2, 8, chunk(name, b"Comment\0anything"))))
    assert decoded.rgb.getpixel((3, 3)) == (1, 2, 3)
    assert decoded.notes == (f"its chunk “{name.decode()}” is damaged and was left out",)


def test_a_chunk_whose_name_may_be_damaged_is_a_refusal() -> None:
    data = file_of(PALETTE, transparency=3).replace(b"tRNS", b"tSNS")
    with pytest.raises(UnreadablePicture, match="the checksum of its chunk “tSNS” is wrong"):
        here(data)


def test_a_text_that_cannot_be_unpacked_does_not_cost_the_picture() -> None:
    for body in (b"Comment\0\0not zlib", b"Raw profile type exif\0\0not zlib", b"no end"):
        assert here(png(uniform(1, 2, 3), 2, 8, chunk(b"zTXt", body))).rgb.getpixel((3, 3)) == (1, 2, 3)


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt"])
def test_an_orientation_written_as_text_still_turns_the_picture(name: bytes) -> None:
    exif = TURNED.tobytes()
    text = f"\nexif\n{len(exif)}\n{exif.hex()}\n".encode()
    packed = b"\0" + zlib.compress(text) if name == b"zTXt" else text
    data = png(uniform(1, 2, 3, size=(32, 16)), 2, 8, chunk(name, b"Raw profile type exif\0" + packed))
    assert here(data).rgb.size == (16, 32)


def test_a_chunk_that_only_some_programs_know_is_a_refusal() -> None:
    with pytest.raises(UnreadablePicture, match="is a PNG of a rare kind"):
        here(png(uniform(1, 2, 3), 2, 8, chunk(b"CgBI", b"")))


def pixels(packed: bytes, *, end: bytes = chunk(b"IEND", b"")) -> bytes:
    header = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + end


ROWS = zlib.compress(b"".join(b"\0" + bytes(range(row, row + 16)) for row in range(16)))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (ROWS[:-1] + bytes([ROWS[-1] ^ 1]), r"its pixel data cannot be unpacked \(incorrect data check\)"),
        (b"\0" + ROWS, r"its pixel data cannot be unpacked \(incorrect header check\)"),
        (ROWS[:-4], "ends before the picture is complete"),
        (ROWS[: len(ROWS) // 2], "ends before the picture is complete"),
        (zlib.compress(bytes(17 * 15)), "ends before the picture is complete"),
        (b"", "ends before the picture is complete"),
    ],
)
def test_pixels_that_zlib_finds_damaged_or_incomplete_are_refused(packed: bytes, message: str) -> None:
    here(pixels(ROWS))
    with pytest.raises(UnreadablePicture, match=message):
        here(pixels(packed))


@pytest.mark.parametrize("end", [b"", b"\0\0", struct.pack(">I", 1 << 30) + b"tEXt"])
def test_a_png_cut_off_after_its_pixels_is_read_with_a_note(end: bytes) -> None:
    assert np.array_equal(here(pixels(ROWS, end=end)).rgb, here(pixels(ROWS)).rgb)
    assert (
        here(pixels(ROWS, end=end)).notes[-1] == "the file is cut off or damaged after its pixels, which are complete"
    )


@pytest.mark.parametrize("missing", [b"PLTE", b"IHDR"])
def test_a_png_without_what_it_needs_is_refused(missing: bytes) -> None:
    data = file_of(PALETTE)
    start = data.index(missing) - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    with pytest.raises(UnreadablePicture, match="is PNG, but damaged: it"):
        here(data[:start] + data[end:])


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_damage_that_libjpeg_works_around_is_a_note(options: dict[str, bool]) -> None:
    data = bytearray(file_of(gradient(64, 64), "JPEG", **options))
    assert here(bytes(data)).notes == ()
    coded = data.rindex(b"\xff\xda") + 14
    data[coded : coded + 6] = b"\xaa\x55" * 3
    notes = here(bytes(data)).notes
    assert notes[0].startswith("it is damaged, so parts of it may differ from the original (")


def test_bytes_before_the_end_of_a_jpeg_are_a_note() -> None:
    data = file_of(gradient(), "JPEG")
    assert here(data[:-2] + b"abc" * 30 + data[-2:]).notes == (
        "it is damaged, so parts of it may differ from the original (87 extraneous bytes before marker 0xd9)",
    )


@pytest.mark.parametrize(
    "picture",
    [SMALL, SMALL.convert("L"), SMALL.convert("CMYK")],
    ids=["RGB", "L", "CMYK"],
)
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 1}])
def test_a_sound_jpeg_has_no_note_of_damage(picture: Image.Image, options: dict[str, int]) -> None:
    assert not [note for note in here(file_of(picture, "JPEG", **options)).notes if "damaged" in note]


def test_a_jpeg_that_lacks_a_part_of_its_profile_says_so() -> None:
    data = file_of(gradient(), "JPEG", icc_profile=bytes(100_000))
    second = data.rindex(b"ICC_PROFILE\0") - 4
    after = second + 2 + int.from_bytes(data[second + 2 : second + 4], "big")
    decoded = here(data[:second] + data[after:])
    assert decoded.notes == ("its embedded colour profile cannot be used and was left out",)


def test_the_checksum_of_a_deflated_tiff_is_checked() -> None:
    data = bytearray(file_of(gradient(), "TIFF", compression="tiff_adobe_deflate"))
    tags = Image.open(BytesIO(data)).tag_v2
    data[tags[273][0] + tags[279][0] - 1] ^= 1
    with pytest.raises(UnreadablePicture, match="is TIFF, but is damaged"):
        here(bytes(data))


def test_what_pillow_warns_of_is_a_note_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> list[str]:
        for _ in range(2):
            warnings.warn("Truncated\nFile Read", UserWarning, stacklevel=1)
        warnings.warn("an old name", DeprecationWarning, stacklevel=1)
        return []

    monkeypatch.setattr(decoder, "_ignored_colour", warn)
    assert here(file_of(gradient())).notes == ("it may be damaged; its decoder warns: Truncated File Read",)
