"""Options of `index` and its commands; imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

WEIGHTS = (
    "cross-attention k,v | attention | all | adapter | a regular expression over names of the UNet's weights; by "
    "default all, or those of the LoRA"
)
AnsweredBy = Annotated[
    str, typer.Option("--method", help="method that questions are to be answered by: forward_inf | steady")
]
Draws = Annotated[
    int | None, typer.Option(min=1, help="draws per image, by default those of the method: 4, or 16 for steady")
]
Embedders = Annotated[
    str,
    typer.Option(
        "--embedder",
        help="visual similarity by: unet | vae | artwork | Hub id or folder of a CLIP or DINOv2 checkpoint",
    ),
]

NullCount = Annotated[
    int | None,
    typer.Option(
        "--null-pictures",
        min=0,
        help="null pictures to run as queries, so that answers can say what stands out; by default 29",
    ),
]
Null = Annotated[
    str,
    typer.Option(
        "--null",
        metavar="held-out|drawn|FOLDER",
        help="null pictures: held-out images, what the base of a LoRA draws without it, or a folder of other pictures; "
        "by default held-out images, or with a LoRA and too few of them drawn ones",
    ),
]


class Fits(StrEnum):
    CROP, PAD, BUCKET = "crop", "pad", "bucket"


FitChoice = Annotated[
    Fits | None,
    typer.Option(
        "--fit",
        help="how pictures are made the model's shape: the middle, the whole on white, or the middle in the nearest "
        "aspect ratio; by default crop, and pad for the shipped model",
    ),
]
FlipChoice = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="weigh each picture and its mirrored one, as trained with flip augmentation; by default as a LoRA states",
    ),
]
Sketch = Annotated[
    bool, typer.Option(help="keep 4 KB an image that say where to look first, so that answers weigh few images")
]
