"""The page that shows every picture of the training set, and who made it."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from ..examples.catalog import TrainingImage, counted
from . import forms, theme, view
from .served import Served
from .theme import html

SHOWN = 60  # on a page
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
        return theme.url_of(catalog.path_of(image))

    def search(first: int, text: str | None, collection: str, split: str, repeated: bool) -> tuple[object, ...]:
        """What a page of what was found shows, from the place `first` on; nothing is chosen on it."""
        found = forms.CatalogSearch(text or "", collection, split, repeated).found_in(catalog)
        shown = found[first : first + SHOWN]
        return (
            view.found(len(found), first, len(shown)),
            view.gallery(shown, url_of),
            view.no_choice(),
            first,
            gr.update(visible=len(shown) < len(found), interactive=first > 0),
            gr.update(visible=len(shown) < len(found), interactive=first + SHOWN < len(found)),
        )

    def choose(event: gr.EventData) -> str:
        image = catalog.by_id.get(event.id)
        return view.credit(image, url_of(image)) if image else view.no_choice()

    html(
        view.page_title(
            "Training set",
            "Open emoji artwork from four collections. The model has seen the pictures trained on, and no others.",
        )
        + view.training_set_counts(catalog)
    )
    fields = _filters(served)
    summary, tiles, *_ = search(0, "", forms.EVERY_COLLECTION, "train", False)
    place = gr.State(0)
    with gr.Row(elem_classes="fi-browse"):
        with gr.Column(scale=5, min_width=300):
            count = html(summary, elem_id="found")
            gallery = html(tiles, js_on_load=CHOOSE, elem_id="gallery")
            with gr.Row(elem_classes="fi-buttons"):
                before = gr.Button("Previous", elem_id="previous", min_width=100, interactive=False)
                after = gr.Button("Next", elem_id="next", min_width=100)
        with gr.Column(scale=3, min_width=300, elem_classes="fi-chosen"):
            chosen = html(view.no_choice(), elem_id="credit")
    html(f'<h2 class="fi-section">Collections and licences</h2>{view.collections(catalog)}')
    with gr.Accordion("Everyone who made a picture", open=False, elem_id="creators"):
        html(view.creators(catalog))

    page: dict[str, Any] = {
        "outputs": [count, gallery, chosen, place, before, after],
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    gr.on([f.change for f in fields], partial(search, 0), fields, **page, trigger_mode="always_last")
    for button, by in ((before, -SHOWN), (after, SHOWN)):
        turned = button.click(lambda first, *asked, by=by: search(first + by, *asked), [place, *fields], **page)
        turned.then(fn=None, js=TO_THE_TOP)
    gallery.select(choose, None, chosen, show_progress="hidden", api_visibility="private")


def _filters(served: Served) -> list[gr.components.Component]:
    names = [name for name, _ in counted(served.catalog.images, lambda image: image.collection)]
    collections = [(view.COLLECTION_NAMES.get(name, name), name) for name in names]
    splits = [("Trained on", "train"), ("Held out", "held_out"), ("Reserve", "reserve"), ("All", forms.EVERY_SPLIT)]
    with gr.Row(elem_classes="fi-filters"):
        text = gr.Textbox(label="Search", placeholder="apple, Emily Jäger, …", elem_id="search", scale=3, min_width=220)
        collection = gr.Dropdown(
            [("All collections", forms.EVERY_COLLECTION), *collections],
            value=forms.EVERY_COLLECTION,
            label="Collection",
            filterable=False,
            elem_id="collection",
            scale=2,
            min_width=150,
        )
        split = gr.Dropdown(
            splits, value="train", label="Pictures", filterable=False, elem_id="split", scale=2, min_width=150
        )
        repeated = gr.Checkbox(label="Only those shown repeatedly", elem_id="repeated", scale=2, min_width=200)
    return [text, collection, split, repeated]
