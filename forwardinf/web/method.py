"""The page that says what this is, what it is not, and on what terms."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from . import theme, view
from .served import Served
from .theme import html

WHAT_IT_IS = """
Forward-INF is made for one question: **which training images did a generated picture come from?** It follows
[The Mirrored Influence Hypothesis](https://arxiv.org/abs/2402.08922) (Ko et al., CVPR 2024), which estimates the
influence of training data with forward passes alone.

To answer that honestly, one has to know everything that a model was trained on. So this app brings a small model of
its own, built like Stable Diffusion, and the whole of its training set: openly licensed emoji artwork, with the
creator and the licence of each picture.
"""

WHAT_TO_KEEP_IN_MIND = """
## What to keep in mind

- **Estimated influence is neither copying nor infringement.** It says that, as far as this method can tell, training
  on one picture moved the model towards another. Whether a work is protected, and whether a use of it is lawful, is
  for people to judge.
- **The model is small.** It knows the English names of emoji and four drawing styles, and little else. Its pictures
  are often rough, and sometimes close to a picture of the training set.
- **The artists did not make the generated pictures**, and have not endorsed them.
"""


def add(served: Served) -> None:
    """Lay the page out in the current Blocks."""
    with gr.Column(elem_classes="fi-prose"):
        html(view.page_title("About", "What this is, what it is not, and on what terms."))
        gr.Markdown(WHAT_IT_IS)
        gr.Markdown(WHAT_TO_KEEP_IN_MIND)
        html(view.model_facts(served.model.fingerprint, served.model.picture_size, served.catalog))
        _document("Model card", Path(served.model.spec.checkpoint) / "README.md")
        _document("Licences of the artwork", served.catalog.folder / "LICENSE-ARTWORK.md")


def _document(title: str, path: Path) -> None:
    """A shipped text, folded, with the pictures that lie beside it; nothing where it is not shipped."""
    if not path.is_file():
        return
    markdown = view.without_front_matter(path.read_text(encoding="utf-8"))
    for name in view.pictures_beside(markdown):
        picture = path.with_name(name)
        if picture.is_file():
            gr.set_static_paths([picture])
            markdown = markdown.replace(f"]({name})", f"]({theme.url_of(picture)})")
    with gr.Accordion(title, open=False):
        gr.Markdown(markdown)
