"""How well maps of influence find what was copied: `make bench-maps`.

Each query is one half of a training image beside white, with the image's caption. Prints which share of each map's rise
lies in the half that was copied; a map that knows nothing would have 0.5.
"""

import argparse
import random
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from forwardinf.attribution.attributor import DEFAULT_METHOD, Attributor
from forwardinf.attribution.influence_map import influence_maps
from forwardinf.config import ASSETS
from forwardinf.examples.catalog import Catalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30, help="of each kind, each asked about by both halves")
    images = parser.parse_args().images
    attributor, artwork = Attributor.load(), Catalog.load(ASSETS / "emoji")
    trained = attributor.index.catalog.of_split("train").images
    kinds = {
        "shown 25 times an epoch": [i for i in trained if i.repeats > 1],
        "shown once": [i for i in trained if i.repeats == 1],
    }
    print("| training images | half copies | map of the query: mean share, above 0.5 | map of the training image |")
    print("|---|---|---|---|")
    for kind, of_kind in kinds.items():
        shares = []
        for image in random.Random(0).sample(of_kind, min(images, len(of_kind))):
            picture = artwork.picture(artwork.by_id[image.id]).convert("RGB")
            for left in (True, False):
                query = attributor.query(half(picture, left), image.caption)
                maps = influence_maps(attributor, query, image.id, DEFAULT_METHOD)
                shares.append((share(maps.of_query, left), share(maps.of_image, left)))
        of_query, of_image = zip(*shares, strict=True)
        print(f"| {kind} | {len(shares)} | {told(of_query)} | {told(of_image)} |", flush=True)


def half(picture: Image.Image, left: bool) -> Image.Image:
    """The left or the right half of a picture, beside white."""
    kept, middle = Image.new("RGB", picture.size, "white"), picture.width // 2
    box = (0, 0, middle, picture.height) if left else (middle, 0, picture.width, picture.height)
    kept.paste(picture.crop(box), box[:2])
    return kept


def share(rise: Tensor, left: bool) -> float:
    """Which share of a map's rise lies in that half."""
    risen, middle = rise.clamp(min=0), rise.shape[1] // 2
    return float((risen[:, :middle] if left else risen[:, middle:]).sum() / risen.sum())


def told(shares: Sequence[float]) -> str:
    return f"{sum(shares) / len(shares):.2f}, {sum(one > 0.5 for one in shares)}"


if __name__ == "__main__":
    main()
