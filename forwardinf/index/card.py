"""The card of an index, for those who find it on the Hub: what it is, of which images, and how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..examples.catalog import counted
from .info import prepared

if TYPE_CHECKING:
    from .store import Index

SHOWN = 10  # licences and creators that are listed

CARD = """---
pretty_name: {name}
viewer: false
tags:
- forward-inf
- training-data-attribution
---

# {name}

An index of Forward-INF: with the model, it answers which training images influenced a picture. Estimated influence is
neither copying nor infringement.

| | |
|---|---|
| model | {model}, fingerprint `{fingerprint}` |
| images | {trained} that the model was trained on, {held_out} held out |
| pictures prepared by | {prepared} |
| draws | {draws} per image |
| null pictures | {null} |
| fingerprint of the index | `{index}` |

It holds of each image its latents, its caption and credits, a thumbnail of at most 128 pixels, embeddings and losses;
not the picture itself, and not the model. Whoever has it sees captions and thumbnails, under each image's own licence:

| licence | images |
|---|---|
{licences}

| creator | images |
|---|---|
{creators}

```sh
forwardinf index pull {place} --out my-index
forwardinf attribute picture.png --prompt "…" --index my-index --model …
```
"""


def card_of(index: Index, place: str) -> str:
    """The card as Markdown, with the front matter that the Hub reads."""
    info, images = index.info, index.catalog.images
    null = index.null_changes
    return CARD.format(
        name=_plain(index.folder.name),
        model=_plain(info.model),
        fingerprint=info.fingerprint,
        trained=f"{len(index.trained):,}",
        held_out=f"{len(images) - len(index.trained):,}",
        prepared=prepared(info.fit, info.flip),
        draws=info.draw_count,
        null=len(null.queries) if null else "none",
        index=index.fingerprint,
        licences=_rows(counted(images, lambda image: image.licence)),
        creators=_rows(counted(images, lambda image: image.creator)),
        place=place,
    )


def _rows(counts: list[tuple[str, int]]) -> str:
    rows = [f"| {_plain(value)} | {count:,} |" for value, count in counts[:SHOWN]]
    if others := counts[SHOWN:]:
        rows.append(f"| {len(others):,} others | {sum(count for _, count in others):,} |")
    return "\n".join(rows)


def _plain(text: str) -> str:
    """Other people's words as a cell of a table: no markup, one line."""
    kept = " ".join(text.split())
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in kept)
