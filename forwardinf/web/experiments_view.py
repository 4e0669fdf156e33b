"""Pure functions from what was drawn to test a match to the HTML that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..attribution.counterfactual import Counterfactual, Redrawn
from ..attribution.influence_map import InfluenceMaps
from ..attribution.regeneration import Regeneration
from ..examples.decoding import to_square
from ..examples.fit import PAD, cropped
from ..records.keeping import png_of
from .query_view import data_url
from .templates import render

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SIDE, MAP_SIDE = 160, 256  # pixels
HEAT = (220, 70, 10)


def regeneration(found: Regeneration) -> str:
    """Pictures drawn from a training image's caption, as far as they are drawn."""
    return render(
        "regeneration.html",
        caption=found.image.caption,
        pictures=[(_url(drawn.picture), drawn.seed, drawn.likeness) for drawn in found.drawn],
        done=len(found.drawn) + len(found.reach),
        total=found.seeds + found.others,
        found=found.in_words if found.finished else "",
    )


def counterfactual(found: Counterfactual, prompt: str) -> str:
    """A prompt drawn as the model is and without an image, as far as it is drawn."""
    return render(
        "counterfactual.html",
        prompt=prompt,
        rows=[_row(f"seed {one.seed}", one) for one in found.of_prompt],
        unrelated=[_row(f"“{one.prompt}”", one) for one in found.unrelated],
        done=found.steps,
        total=found.total,
        found=found.in_words if found.steps == found.total else "",
    )


def maps(found: InfluenceMaps, query: Image, image: Image, fit: str) -> str:
    """The picture and the training image as the model is shown them, each with where its error rises laid over it."""
    return render(
        "influence_maps.html",
        query_url=data_url(png_of(_laid_over(query, found.of_query, fit))),
        image_url=data_url(png_of(_laid_over(image, found.of_image, fit))),
    )


def _laid_over(picture: Image, rise: Tensor, fit: str) -> Image:
    """A pale picture under the places where `rise [h w]` is above 0: the more opaque the higher."""
    from PIL import Image as images

    height, width = (MAP_SIDE * side // max(rise.shape) for side in rise.shape)
    shown = to_square(picture, MAP_SIDE) if fit == PAD else cropped(picture, (width, height))
    base = shown.convert("L").convert("RGB")
    pale = images.blend(base, images.new("RGB", base.size, "white"), 0.4)
    share = rise.clamp(min=0) / rise.max().clamp(min=1e-12)
    opacity = images.fromarray((share * 210).byte().numpy()).resize(base.size, images.Resampling.BICUBIC)
    return images.composite(images.new("RGB", base.size, HEAT), pale, opacity)


def _row(name: str, one: Redrawn) -> tuple[str, list[tuple[str, float | None]]]:
    """A row's name, and its pictures, each with its likeness to the first."""
    pictures = (one.before, one.without_chosen, one.without_random)
    alike = (None, one.chosen_likeness, one.random_likeness)
    return name, [(_url(picture), value) for picture, value in zip(pictures, alike, strict=True)]


def _url(picture: Image) -> str:
    return data_url(png_of(to_square(picture, SIDE)))
