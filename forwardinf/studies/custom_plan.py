"""Which pictures a model is fine-tuned on in each case of the customisation study, and which images they hide among.

Everything follows from the artwork's catalog and fixed seeds. As in Attribution by Customisation (Wang et al. 2023,
arXiv 2306.09345), the exemplars of a case show one subject under one caption, from which the model then draws. With a
caption for each exemplar, a picture would come from one of them, and the others would not be right answers.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InvalidRequest
from ..examples.catalog import Catalog, TrainingImage
from ..files.atomic import write_json
from ..training.customise import CustomRecipe
from .procedural import KINDS as RULES
from .procedural import procedural

PARTS = ("choosing", "reported")  # settings are chosen on the first only
KINDS = ("artwork", "procedural")
MOST_EXEMPLARS = 5
MOST_CASES = 60
Images = dict[str, list[TrainingImage]]  # by collection


@dataclass(frozen=True)
class Exemplar:
    """A picture that a model is fine-tuned on; `view` numbers the part of the case's pattern, None for artwork."""

    id: str
    view: int | None


@dataclass(frozen=True)
class CustomCase:
    """A model to fine-tune on similar exemplars.

    These are the artwork of one subgroup and collection with the nearest perceptual hashes, or views of one pattern
    that a rule makes.
    """

    number: int
    part: str
    kind: str
    group: str
    caption: str  # of all exemplars
    exemplars: tuple[Exemplar, ...]


@dataclass(frozen=True)
class CustomPlan:
    """All cases, and the training images among which their exemplars have to be found."""

    recipe: CustomRecipe
    candidates: tuple[str, ...]
    companions: tuple[str, ...]  # training images shown beside the exemplars; none of them is a candidate
    cases: tuple[CustomCase, ...]
    pictures: int = 4  # of each case

    @classmethod
    def of(
        cls,
        artwork: Catalog,
        recipe: CustomRecipe,
        candidates: int = 1000,
        companions: int = 500,
    ) -> CustomPlan:
        """Sixty cases, of which every 20 in a row hold each combination of part, kind and number of exemplars once.

        No two cases share an exemplar or a subgroup.
        """
        trained = [image.id for image in artwork.of_split("train").images]
        order = random.Random("customisation/candidates").sample(trained, candidates + companions)
        groups = _groups(artwork)
        cases = tuple(_case(number, groups) for number in range(MOST_CASES))
        return cls(recipe, tuple(sorted(order[:candidates])), tuple(sorted(order[candidates:])), cases)


def view_of(case: CustomCase, view: int, side: int = 64) -> Image.Image:
    """A square part of the pattern that the rule of a case makes; parts may overlap."""
    whole = procedural(case.group, case.number, 3 * side // 2)
    chance = random.Random(f"customisation/{case.number}/view/{view}")
    left, top = chance.randint(0, side // 2), chance.randint(0, side // 2)
    return whole.crop((left, top, left + side, top + side))


def _groups(artwork: Catalog) -> list[tuple[str, Images]]:
    """Artwork of the reserve that training has not shown in any form, by subgroup and collection.

    Only subgroups with enough images in every collection, in a random order.
    """
    known = [image for image in artwork.images if image.split != "reserve"]
    captions, hashes = {image.caption for image in known}, {image.phash for image in known}
    found: dict[str, Images] = defaultdict(lambda: defaultdict(list))
    for image in artwork.of_split("reserve").images:
        if image.caption not in captions and image.phash not in hashes:
            found[image.subgroup][image.collection].append(image)
    collections = {image.collection for image in artwork.images}
    shared = [
        name for name, images in sorted(found.items()) if all(len(images[c]) >= MOST_EXEMPLARS for c in collections)
    ]
    order = random.Random("customisation/groups").sample(shared, len(shared))
    return [(name, {collection: found[name][collection] for collection in sorted(collections)}) for name in order]


def _case(number: int, groups: list[tuple[str, Images]]) -> CustomCase:
    kind, of_kind, part = KINDS[number % 2], number // 2, PARTS[number // 2 % 2]
    # Each round of 20 begins at another number of exemplars, so that an incomplete round stays balanced.
    count = 1 + (number // 4 + 2 * (number // 20)) % MOST_EXEMPLARS
    if kind == "artwork":
        if of_kind >= len(groups):
            raise InvalidRequest(
                f"The reserve has only {len(groups)} subgroups with artwork in every collection; more are needed."
            )
        subgroup, by_collection = groups[of_kind]
        collection = _in_turn(sorted(by_collection), of_kind)
        chosen = _alike(by_collection[collection], count, random.Random(f"customisation/{number}"))
        caption = f"{subgroup.replace('-', ' ')}, {chosen[0].caption.rpartition(', ')[2]}"
        exemplars = tuple(Exemplar(image.id, None) for image in chosen)
        return CustomCase(number, part, kind, f"{collection} {subgroup}", caption, exemplars)
    rule = _in_turn(RULES, of_kind)
    exemplars = tuple(Exemplar(f"{rule}-{number}-{view}", view) for view in range(count))
    return CustomCase(number, part, kind, rule, f"{rule}, Procedural style", exemplars)


def _alike(images: Sequence[TrainingImage], count: int, chance: random.Random) -> list[TrainingImage]:
    """The `count` images that lie closest together around one of them; ties are broken at random."""
    around = [
        sorted(images, key=lambda image: (image is not first, _distance(image, first), image.id))[:count]
        for first in chance.sample(images, len(images))
    ]
    return min(around, key=lambda chosen: max(_distance(image, chosen[0]) for image in chosen))


def _distance(a: TrainingImage, b: TrainingImage) -> int:
    """The number of bits in which two perceptual hashes differ."""
    return (int(a.phash, 16) ^ int(b.phash, 16)).bit_count()


def _in_turn(names: Sequence[str], of_kind: int) -> str:
    """Each part cycles through all names, the second starting halfway."""
    return names[(of_kind // 2 + of_kind % 2 * len(names) // 2) % len(names)]


def read_plan(folder: Path) -> CustomPlan:
    """The plan of a folder of cases."""
    fields: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    cases = [
        CustomCase(**{**case, "exemplars": tuple(Exemplar(**exemplar) for exemplar in case["exemplars"])})
        for case in fields["cases"]
    ]
    names = {name: tuple(fields[name]) for name in ("candidates", "companions")}
    return CustomPlan(**{**fields, **names, "recipe": CustomRecipe(**fields["recipe"]), "cases": tuple(cases)})


def write_plan(folder: Path, plan: CustomPlan) -> None:
    """Write the plan unless it is there; raises InvalidRequest where the folder has another one."""
    if not (folder / "plan.json").is_file():
        write_json(folder / "plan.json", asdict(plan))
    elif read_plan(folder) != plan:
        raise InvalidRequest(f"“{folder.name}” holds cases of another plan. Remove it, or name another folder.")
