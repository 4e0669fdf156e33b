"""The page that says how an answer comes about, what it is not, and on what terms."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ..config import ASSETS
from ..index.store import Index
from ..scoring.confidence import ENOUGH
from ..scoring.null import FEWEST
from . import theme, view
from .served import Served
from .theme import html

HOW_IT_WORKS = """
Which training images does a picture owe most to? One could train the model again without each of them, and see how the
picture changes; nobody can afford that. [The Mirrored Influence Hypothesis](https://arxiv.org/abs/2402.08922) (Ko et
al., CVPR 2024) turns the question round: teach the model a little about *the picture*, and see which training images it
then meets differently.

1. **A small step.** The model takes a gradient step on the picture alone, on all of its weights, just so large that its
   error on the picture changes by a set share. Weights on which the whole training set leans are held
   back, so that the step is about this picture and not about everything (Wang et al. 2024). The model reads the
   picture’s prompt meanwhile; where none is given, the caption of the training image that looks most like it.
2. **{draws} looks at each training image.** Each of the {examples:,} images is noised {draws} times, from a little to
   almost wholly, and the model’s error at restoring it is compared with the error before the step. The noise is the
   same both times, and the same for every image and for the picture, so that nothing else can make a difference. An
   image that was learned by heart leaves hardly any error to change. So the noisiest look asks instead how *strong* the
   model’s prediction is, after a step of its own that makes it stronger for the picture.
{score}
{what_counts}
{verdict}
5. **Groups.** A creator, a collection or a licence is not judged by adding up scores, but by whether its images rank
   higher, as a whole, than as many drawn at random would (a rank-sum test, allowing for the number of groups).

**Visual similarity is something else**: it only says that two pictures look alike. A picture can look like a training
image that the model never learned much from, and owe something to one that it does not resemble. That an image looks
like the picture makes it likelier that a measured influence is real, so it weighs in the score; by
itself it makes none.

To answer honestly, one has to know everything that a model was trained on. So this app brings a small model of its own,
built like Stable Diffusion, and the whole of its training set: openly licensed emoji artwork, with the creator and the
licence of each picture.
"""

SCORE = """3. **A score.** Some images meet the model differently whenever it is touched at all, others hardly ever
   do. So the same was asked of {reference} pictures that the model never saw and that look like no training image. What
   counts is how far an image moved beyond what is usual *for that image*: 0 where it did not."""

PLAIN_SCORE = "3. **A score.** How far an image moved, on a scale on which the average image has 0."

WHAT_COUNTS = """   A rise of its error counts for more where it also looks more like the
   picture than most do; looks alone count for nothing. What the noisiest look finds counts by its square, whatever the
   image looks like. The *standard error* says how far the score may change with other noise. Higher means more
   influential, by this estimate."""

VERDICT = """4. **A verdict.** A list of the most influential images always has a first. So an image *stands out* only
   where its score lies above the highest that nine in ten of these {reference} pictures reach with any image. Where a
   picture owes nothing to the training set, this calls one in at most one answer of ten, if the picture is of the kind
   of those compared with. *No. 2 to 5* are the ranks that an image takes when one of the looks is left out: a
   steady rank does not depend on one of them. With other noise altogether about half of the ranks lay outside, on a
   smaller model of the same kind."""

TOO_FEW = """4. **No verdict.** A list of the most influential images always has a first. {reference} pictures that the
   model never saw were asked when this index was built; it takes {enough} to say whether an image stands out.
   *No. 2 to 5* are the ranks that an image takes when one of the looks is left out."""

NO_VERDICT = """4. **No verdict.** A list of the most influential images always has a first. This index was built
   without asking pictures that the model never saw, so it is not said whether an image stands out."""

WHAT_TO_KEEP_IN_MIND = """
## What to keep in mind

- **Estimated influence is neither copying nor infringement.** It says that, as far as this method can tell, training
  on one picture moved the model towards another. Whether a work is protected, and whether a use of it is lawful, is
  for people to judge.
- **Often no image stands out.** The more images a model learned from, the less any one of them decides. What is listed
  then is merely similar in what the model makes of it.
- **The model is small.** It knows the English names of emoji and four drawing styles, and little else. Its pictures
  are often rough, and sometimes close to a picture of the training set.
- **The artists did not make the generated pictures**, and have not endorsed them.
"""


def add(served: Served) -> None:
    """Lay the page out in the current Blocks."""
    with gr.Column(elem_classes="fi-prose"):
        html(view.page_title("Method", "How an answer comes about, what it is not, and on what terms."))
        gr.Markdown(_how_it_works(served.index))
        gr.Markdown(WHAT_TO_KEEP_IN_MIND)
        html(view.model_facts(served.index.info.fingerprint, served.catalog))
        _document("Model card", served.checkpoint / "README.md")
        if served.shipped:
            _document("Licences of the artwork", ASSETS / "emoji" / "LICENSE-ARTWORK.md")


def _how_it_works(index: Index) -> str:
    asked = len(index.reference.queries) if index.reference else 0
    counts = {"examples": len(index.trained), "draws": index.info.draw_count, "reference": asked,
              "enough": ENOUGH}  # fmt: skip
    score = SCORE if asked >= FEWEST else PLAIN_SCORE
    verdict = VERDICT if asked >= ENOUGH else TOO_FEW if asked else NO_VERDICT
    parts = {"score": score, "what_counts": WHAT_COUNTS, "verdict": verdict}
    return HOW_IT_WORKS.format(**counts, **{name: text.format(**counts) for name, text in parts.items()})


def _document(title: str, path: Path) -> None:
    """A shipped text, folded; nothing where it is not shipped."""
    if path.is_file():
        with gr.Accordion(title, open=False):
            gr.Markdown(theme.with_pictures(view.without_front_matter(path.read_text(encoding="utf-8")), path.parent))
