"""The page that shows every image of the training set, and who made it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from ..examples.catalog import Catalog, TrainingImage, counted
from ..index.about_file import read_about
from ..records.text import licence_name
from . import forms, index_view, training_view, view
from .guard import for_viewers
from .served import Served
from .theme import html

SHOWN = 60  # on a page
CREDITS = (
    '<p><a href="credits.csv" download>Credits as CSV</a> <span class="fi-small">sources, creators, licences, '
    "addresses and numbers of images, as a summary of training data lists them</span></p>"
)
TO_THE_TOP = "() => document.querySelector('#found').scrollIntoView({ block: 'start' })"
CHOOSE = """
element.addEventListener('click', (event) => {
  const tile = event.target.closest('[data-id]');
  if (!tile) return;
  const again = tile.hasAttribute('aria-pressed');
  element.querySelectorAll('[aria-pressed]').forEach((other) => other.removeAttribute('aria-pressed'));
  if (!again) tile.setAttribute('aria-pressed', 'true');
  // On a phone the credit rises over the lower half of the screen, so the tile goes to the upper.
  if (!again && matchMedia('(max-width: 720px)').matches) tile.scrollIntoView({ block: 'start' });
  trigger('select', { id: again ? '' : tile.dataset.id });
});
"""


def add(served: Served) -> None:
    """Lay the page out in the current Blocks and wire it."""
    catalog = served.catalog

    def url_of(image: TrainingImage) -> str:
        return served.url_of(image.id)

    @for_viewers
    def choose(event: gr.EventData) -> str:
        image = catalog.by_id.get(event.id)
        return training_view.credit(image, url_of(image)) if image else training_view.no_choice()

    search = partial(_found, catalog, url_of)
    html(view.page_title("Training set", _lead(served)) + training_view.counts(catalog))
    fields = _filters(served)
    summary, tiles, *_ = search(0, "", forms.EVERY_COLLECTION, "train", False, forms.EVERY_LICENCE)
    place, several = gr.State(0), len(catalog.of_split("train").images) > SHOWN
    with gr.Row(elem_classes="fi-browse"):
        with gr.Column(scale=5, min_width=300):
            count = html(summary, elem_id="found")
            gallery = html(tiles, js_on_load=CHOOSE, elem_id="gallery")
            with gr.Row(elem_classes="fi-buttons"):
                before = gr.Button("Previous", elem_id="previous", min_width=100, interactive=False, visible=several)
                after = gr.Button("Next", elem_id="next", min_width=100, visible=several)
        with gr.Column(scale=3, min_width=300, elem_classes="fi-chosen"):
            chosen = html(training_view.no_choice(), elem_id="credit")
    html(f'<h2 class="fi-section">Collections and licences</h2>{training_view.collections(catalog)}{CREDITS}')
    with gr.Accordion("Everyone who made an image", open=False, elem_id="creators"):
        html(training_view.creators(catalog))
    html(
        index_view.about_index(served.index, read_about(served.index.manifest), served.may_build), elem_id="about-index"
    )

    # Past Gradio's queue, which takes one search at a time; one takes a few milliseconds.
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    page: dict[str, Any] = {"outputs": [count, gallery, chosen, place, before, after], **at_once}
    gr.on([f.change for f in fields], for_viewers(partial(search, 0)), fields, **page, trigger_mode="always_last")
    for button, by in ((before, -SHOWN), (after, SHOWN)):
        turn = for_viewers(lambda first, *asked, by=by: search(first + by, *asked))
        turned = button.click(turn, [place, *fields], **page)
        turned.then(fn=None, js=TO_THE_TOP)
    gallery.select(choose, None, chosen, **at_once)


def _found(
    catalog: Catalog,
    url_of: Callable[[TrainingImage], str],
    first: int,
    text: str | None,
    collection: str,
    split: str,
    repeated: bool,
    licence: str,
) -> tuple[object, ...]:
    """What a page of what was found shows, from the place `first` on; nothing is chosen on it."""
    found = forms.CatalogSearch(text or "", collection, split, repeated, licence).found_in(catalog)
    shown = found[first : first + SHOWN]
    return (
        training_view.found(len(found), first, len(shown)),
        training_view.gallery(shown, url_of),
        training_view.no_choice(),
        first,
        gr.update(visible=len(shown) < len(found), interactive=first > 0),
        gr.update(visible=len(shown) < len(found), interactive=first + SHOWN < len(found)),
    )


def _lead(served: Served) -> str:
    """What these images are: all that is said comes from the index in use."""
    known = [training_view.collection_name(name) for name, _ in _collections(served)]
    source = f"from {known[0]}" if len(known) == 1 else f"from {len(known)} collections"
    return f"Every image that {served.index.info.model} was trained on, {source}, with its creator and its licence."


def _collections(served: Served) -> list[tuple[str, int]]:
    return counted(served.catalog.images, lambda image: image.collection)


def _filters(served: Served) -> list[gr.components.Component]:
    """Search, collection, split and repetition; a filter that would not narrow this training set is hidden."""
    images = served.catalog.images
    collections = [(training_view.collection_name(name), name) for name, _ in _collections(served)]
    splits = [(view.SPLIT_NAMES[split], split) for split in training_view.splits_of(served.catalog)]
    licences = [(licence_name(name), name) for name, _ in counted(images, lambda image: image.licence)]
    with gr.Row(elem_classes="fi-filters"):
        return [
            gr.Textbox(
                label="Search",
                placeholder="Words of a caption, or a creator",
                elem_id="search",
                scale=3,
                min_width=220,
            ),
            _choice("Collection", [("All collections", forms.EVERY_COLLECTION), *collections], forms.EVERY_COLLECTION),
            _choice("Images", [*splits, ("All", forms.EVERY_SPLIT)], "train"),
            gr.Checkbox(
                label="Only those shown repeatedly",
                visible=any(image.repeats > 1 for image in images),
                elem_id="repeated",
                scale=2,
                min_width=200,
            ),
            _choice("Licence", [("All licences", forms.EVERY_LICENCE), *licences], forms.EVERY_LICENCE),
        ]


def _choice(label: str, choices: list[tuple[str, str]], value: str) -> gr.Dropdown:
    return gr.Dropdown(
        choices,
        value=value,
        label=label,
        filterable=False,
        visible=len(choices) > 2,  # one, and all
        elem_id=label.lower(),
        scale=2,
        min_width=150,
    )
