"""HTML of the training set: its images, their credits, and who made them. The templates escape all text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from ..examples.catalog import Catalog, TrainingImage, counted
from ..examples.credits import site_of
from ..visible import visible
from .templates import render
from .view import COLLECTION_NAMES, LICENCE_NAMES, SPLIT_NAMES

UNKNOWN = "unknown"  # what an image folder's metadata.jsonl does not say


def found(count: int, first: int, shown: int) -> str:
    """How many images were found, and which of them are shown; `first` is the place of the first of these, from 0."""
    return render("found.html", count=count, first=first, shown=shown)


def gallery(images: Iterable[TrainingImage], url_of: Callable[[TrainingImage], str]) -> str:
    """Images as buttons that carry their ids."""
    return render("gallery.html", tiles=[(image, url_of(image)) for image in images])


def no_choice() -> str:
    return render("no_credit.html")


def credit(image: TrainingImage, url: str) -> str:
    """Everything that the catalog knows of an image's origin."""
    return render("credit.html", image=image, url=url, facts=credit_facts(image))


def credit_facts(image: TrainingImage) -> Sequence[tuple[str, str]]:
    """Names and HTML of what is known of an image's origin."""
    package = f"{image.source_package} {image.source_version}".strip()
    facts = (
        ("Creator", image.creator),
        ("Licence", licence(image)),
        ("Collection", link(image.source_url, collection_name(image.collection))),
        ("File", Markup("<code>{}</code>").format(visible(image.source_file))),
        ("Source", Markup("<code>{}</code>").format(visible(package)) if package != UNKNOWN else ""),
        ("Use", _use(image)),
        ("SHA-256", Markup('<code title="{}">{}…</code>').format(image.sha256, image.sha256[:16])),
    )
    return [(name, value) for name, value in facts if value]


def licence(image: TrainingImage) -> str:
    return link(image.licence_url, LICENCE_NAMES.get(image.licence, image.licence))


def link(url: str, text: str) -> str:
    """A link to another site; only web addresses become links."""
    return render("link.html", url=url, text=text)


def collection_name(collection: str) -> str:
    return COLLECTION_NAMES.get(collection, collection)


def collections(catalog: Catalog) -> str:
    """One row of credit for each collection."""
    splits = splits_of(catalog)
    sources = any(image.source_package != UNKNOWN for image in catalog.images)
    heads = ["Collection", "Creator", "Licence", *(SPLIT_NAMES[split] for split in splits)]
    rows = [_collection(catalog, name, splits, sources) for name, _ in counted(catalog.images, _collection_of)]
    return render("table.html", heads=[*heads, *(["Source"] if sources else [])], rows=rows)


def _collection(catalog: Catalog, name: str, splits: Sequence[str], sources: bool) -> list[object]:
    images = [image for image in catalog.images if image.collection == name]
    numbers, first = Counter(image.split for image in images), images[0]
    row: list[object] = [
        Markup("<strong>{}</strong>").format(link(site_of(first.source_url), collection_name(name))),
        _all_of((image.creator for image in images), "creators, each named with their images and below"),
        _licences(images),
        *(numbers[split] for split in splits),
    ]
    if sources:
        row.append(Markup("<code>{} {}</code>").format(*map(visible, (first.source_package, first.source_version))))
    return row


def _licences(images: Sequence[TrainingImage]) -> str:
    one = len({(image.licence, image.licence_url) for image in images}) == 1
    return licence(images[0]) if one else _all_of((image.licence for image in images), "licences, each with its image")


def _all_of(names: Iterable[str], many: str) -> str:
    """The one name, or how many there are."""
    distinct = list(dict.fromkeys(names))
    return distinct[0] if len(distinct) == 1 else f"{len(distinct):,} {many}"


def _collection_of(image: TrainingImage) -> str:
    return image.collection


def splits_of(catalog: Catalog) -> list[str]:
    """The splits that the catalog's images belong to, in the order of `SPLIT_NAMES`."""
    present = {image.split for image in catalog.images}
    return [split for split in SPLIT_NAMES if split in present]


def creators(catalog: Catalog) -> str:
    """Every person or body that made an image, most images first; the number is of images trained on."""
    trained = counted((image for image in catalog.images if image.split == "train"), lambda image: image.creator)
    known = {name for name, _ in trained}
    return render("creators.html", trained=trained, others=sorted({image.creator for image in catalog.images} - known))


def counts(catalog: Catalog) -> str:
    """How many images there are of each kind."""
    number = Counter(image.split for image in catalog.images)
    repeated = Counter(image.repeats for image in catalog.images if image.split == "train" and image.repeats > 1)
    facts = [
        (number["train"], "images trained on"),
        *((n, f"of these shown {times} times per epoch") for times, n in sorted(repeated.items())),
        *([(number["held_out"], "held out, to compare with")] if number["held_out"] else []),
    ]
    return render("counts.html", facts=facts)


def _use(image: TrainingImage) -> str:
    often = f", shown {image.repeats} times per epoch" if image.repeats > 1 else ""
    return f"{SPLIT_NAMES[image.split].lower()}{often}"
