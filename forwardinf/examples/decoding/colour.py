"""A decoded picture of any mode as 8-bit sRGB, with a sentence for each conversion.

numpy and ImageCms are imported only for pictures that need them, so that most child processes start faster.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

from ...errors import UnreadablePicture

if TYPE_CHECKING:
    import numpy as np
    from PIL.ImageCms import ImageCmsTransform

UNUSABLE_PROFILE = "its embedded colour profile cannot be used and was left out"

_SPACE_OF_MODE = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_SAME_COLOUR = 2  # levels of 255: a profile that moves no colour by more is treated as sRGB


def to_rgb(image: Image.Image, bits: int) -> tuple[Image.Image, list[str]]:
    """The picture as RGB, and a sentence for each conversion; `bits` is the depth of a channel in the file."""
    notes: list[str] = []
    profile = image.info.get("icc_profile")
    image = _at_8_bits(image, bits, notes)
    base, alpha = _split(image, notes)
    del image
    base = _in_srgb(base, profile, notes)
    if alpha is not None:
        base = _on_white(base, alpha, notes)
    return base, notes


def _at_8_bits(image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    transparency = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        grey = _deep_grey(image, bits, notes)
        if transparency is not None:
            grey.putalpha(_opaque_unless(image, transparency))
        return grey
    if image.mode in ("I", "F"):
        return _unbounded_grey(image, notes)
    if bits > 8:
        notes.append(f"{'16' if bits == 16 else bits}-bit colour reduced to 8 bits")
        if isinstance(transparency, tuple):
            image.info["transparency"] = tuple(value >> (bits - 8) for value in transparency)
    elif bits < 8 and image.mode == "L" and isinstance(transparency, int):
        # Pillow scales 2- and 4-bit greys to 0..255, but not the transparent one.
        image.info["transparency"] = transparency * 255 // (2**bits - 1)
    return image


def _deep_grey(image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """Greys scaled by the full range of their depth, so a dark picture stays dark; a note then says so."""
    import numpy as np

    bits = bits if bits > 8 else 16
    full = 2**bits - 1
    values = np.asarray(image)
    notes.append(f"{bits}-bit greyscale scaled to 8 bits")
    brightest = int(values.max())
    if 0 < brightest < full // 16:
        notes.append(f"it is very dark: its brightest value is {brightest:,} of {full:,}")
    return _stretched(values, 0, full)


def _opaque_unless(image: Image.Image, transparent: int) -> Image.Image:
    import numpy as np

    return Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))


def _unbounded_grey(image: Image.Image, notes: list[str]) -> Image.Image:
    """Greys of a type that defines no white: 32-bit integers and floating point.

    Floats within 0..1 are display values; if at least 99 % are, the others are highlights and are clipped. Integers
    that fit in 8 or 16 bits are taken to be on that scale. Anything else is stretched from its least to its greatest
    value, so that a measurement in arbitrary units comes out neither black nor white.
    """
    import numpy as np

    values = np.asarray(image)
    kind = "floating-point" if image.mode == "F" else "32-bit integer"
    if image.mode == "F":
        values = _finite(values, notes)
    low, high = float(values.min()), float(values.max())
    white = 1 if image.mode == "F" else 255 if high <= 255 else 65535
    if low >= 0 and high <= white:
        notes.append(f"{kind} values in 0..{white} scaled to 8 bits")
        return _stretched(values, 0, white)
    inside = np.count_nonzero((values >= 0) & (values <= 1)) / values.size
    if image.mode == "F" and (inside >= 0.99 or low == high):
        notes.append(f"{kind} values from {low:g} to {high:g} clipped to 0..1, then scaled to 8 bits")
        return _stretched(values, 0, 1)
    if low == high:
        raise UnreadablePicture(f"holds the single value {low:g} everywhere, of unknown brightness. Save it as 8 bits.")
    notes.append(f"{kind} values from {low:g} to {high:g} stretched onto 0..255")
    return _stretched(values, low, high)


def _finite(values: np.ndarray, notes: list[str]) -> np.ndarray:
    import numpy as np

    bad = ~np.isfinite(values)
    count = int(np.count_nonzero(bad))
    if not count:
        return values
    if count == values.size:
        raise UnreadablePicture("has no finite value in it. Export it again, as 8-bit or 16-bit PNG.")
    notes.append(
        f"{count:,} values that are not finite numbers replaced by the darkest, infinite ones by the brightest"
    )
    low, high = values[~bad].min(), values[~bad].max()
    finite: np.ndarray = np.nan_to_num(values, nan=low, neginf=low, posinf=high)
    return finite


def _stretched(values: np.ndarray, low: float, high: float) -> Image.Image:
    """Values scaled from `low`..`high` to 0..255, clipped and rounded."""
    import numpy as np

    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), 256):  # in strips: 40 Mpx in float64 would be 320 MB
        strip = (values[top : top + 256].astype(np.float64) - low) / (high - low) * 255
        grey[top : top + 256] = np.rint(strip.clip(0, 255))
    return Image.fromarray(grey)


def _split(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """The picture as L, RGB or CMYK, and its alpha channel, if it has one."""
    mode = image.mode
    is_grey = mode in ("1", "L", "LA")
    if mode == "1":
        notes.append("1-bit black and white written as RGB")
    elif is_grey:
        notes.append("greyscale written as RGB")
    elif mode in ("P", "PA"):
        notes.append("palette colours written as RGB")
    elif mode not in ("RGB", "RGBA", "CMYK"):
        notes.append(f"{mode} converted to RGB")
    if image.has_transparency_data:
        image = image if mode == "RGBA" else image.convert("RGBA")
        alpha = image.getchannel("A")
        return (image.getchannel("R") if is_grey else image.convert("RGB")), alpha
    if mode == "CMYK":
        return image, None
    return image.convert("L" if is_grey else "RGB"), None


def _in_srgb(base: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    transform = None
    if profile:
        try:
            transform = _transform(profile, base.mode)
        except (OSError, ValueError, TypeError):
            notes.append(UNUSABLE_PROFILE)
    if transform is None or _keeps_colours(transform, base.mode):
        if base.mode == "CMYK":
            notes.append("CMYK converted to RGB without a profile, so colours are approximate")
        return base.convert("RGB")
    what = {"L": "greys", "RGB": "colours", "CMYK": "CMYK"}[base.mode]
    notes.append(f"{what} converted to {'RGB' if base.mode == 'CMYK' else 'sRGB'} with its embedded profile")
    return transform.apply(base)


def _transform(profile: bytes, mode: str) -> ImageCmsTransform:
    """From the embedded profile to sRGB; raises ValueError if it is damaged or made for another colour space."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACE_OF_MODE[mode]:
            raise ValueError(f"a profile for {source.profile.xcolor_space} in a {mode} picture")
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except ImageCms.PyCMSError as error:
        raise ValueError(str(error)) from error


def _keeps_colours(transform: ImageCmsTransform, mode: str) -> bool:
    if mode == "CMYK":
        return False
    levels = range(0, 256, 17)
    if mode == "L":
        probe = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        colours = bytes(value for r in levels for g in levels for b in levels for value in (r, g, b))
        probe = Image.frombytes("RGB", (len(colours) // 3, 1), colours)
    moved = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
    return max(moved.tobytes()) <= _SAME_COLOUR


def _on_white(rgb: Image.Image, alpha: Image.Image, notes: list[str]) -> Image.Image:
    least, most = alpha.getextrema()
    if most == 0:
        raise UnreadablePicture("is entirely transparent, so there is nothing to see. Save it without transparency.")
    if least == 255:
        notes.append("alpha channel left out: no part is transparent")
        return rgb
    notes.append("transparent parts placed on white")
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white
