"""HTML of what is known of an index as a whole: what it was made with, what was skipped, whether it belongs."""

from __future__ import annotations

from ..index.about_file import About
from ..index.store import Index
from .templates import render

Fact = tuple[str, object, bool]  # name, value, and whether it is code


def about_index(index: Index, about: About | None, may_build: bool = False) -> str:
    """The end of the page of a training set, with a link to where another may be built."""
    belongs = about.belongs if about else ()
    return render(
        "about_index.html",
        facts=[*_model_facts(index, about), *_index_facts(index), *_built_facts(index, about)],
        notes=about.notes if about else (),
        skipped=about.skipped if about else (),
        unlisted=0 if about else index.info.skipped,
        belongs=[one for one in belongs if one.told],
        silent=", ".join(one.of for one in belongs if not one.told),
        known=about is not None,
        may_build=may_build,
    )


def _model_facts(index: Index, about: About | None) -> list[Fact]:
    info = index.info
    base, _, adapter = info.model.partition(" + ")
    return [
        ("Model", base, False),
        *([("Family", about.family, False)] if about and about.family else []),
        ("LoRA", (about.adapter if about else adapter) or "none", False),
        ("Fingerprint of the weights", info.fingerprint, True),
        *([("Resolution", f"{about.picture_size} × {about.picture_size} pixels", False)] if about else []),
        ("Precision", info.dtype, False),
        ("Weights that a query moves", info.tunable, False),
    ]


def _index_facts(index: Index) -> list[Fact]:
    info, null = index.info, index.null_changes
    held_out = info.examples - len(index.trained)
    return [
        ("Index", index.folder.name, False),
        ("Fingerprint of the index", index.fingerprint, True),
        ("Images", f"{len(index.trained):,} trained on, {held_out:,} held out, {info.skipped:,} skipped", False),
        ("Draws", f"{info.draw_count} per image, seed {info.draw_seed}", False),
        ("Null pictures", f"{len(null.queries):,}" if null else "none", False),
        ("Visual similarity by", info.embedder, False),
    ]


def _built_facts(index: Index, about: About | None) -> list[Fact]:
    size = sum((index.folder / name).stat().st_size for name in index.manifest.files)
    read = [("Read from", f"{about.read_from}, by {about.layout}", False)] if about else []
    when = [("Built", f"{about.built_at[:16].replace('T', ' ')} UTC", False)] if about else []
    return [*read, *when, ("Version", index.info.version, False), ("Size on disk", f"{size / 1e6:,.1f} MB", False)]
