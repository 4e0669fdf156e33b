"""The nouns of the project, frozen and cheap to pickle.

Axes, in the order in which they appear in shapes:
    n  indexed images (examples) of a sweep, held-out ones included
    b  batch: examples or pictures
    m  null pictures
    d  draw: one (timestep, noise) pair of an example
    t  token of a prompt
    c h w  channels, height, width of latents (or of pictures, where said)
    f  features of an embedding
    w  all tunable weights in a row
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Adapter:
    """A LoRA or the like on a base model."""

    file: str  # a .safetensors file, or a folder that PEFT wrote
    weight: float = 1.0  # by which its change of the base counts

    @property
    def name(self) -> str:
        """As people write it, without the folder."""
        return PurePath(self.file).name + (f":{self.weight:g}" if self.weight != 1 else "")


@dataclass(frozen=True)
class ModelSpec:
    """Which model, where from, and which of its weights a query may move."""

    checkpoint: str  # a folder, a Hub id, or a single .safetensors file
    revision: str | None = None
    family: str | None = None  # a file of forwardinf/models; None: the one that reads this kind of checkpoint
    dtype: str = "float32"
    device: str = "cpu"
    # Or "adapter", "attention", "cross-attention k,v", or a regular expression over parameter names.
    tunable: str = "all"
    adapter: Adapter | None = None
    prediction: str | None = None  # what a single file's UNet predicts, where the file does not say
    fit: str | None = None  # how pictures are made its shape: crop, pad or bucket; None: as it was trained, else crop
    flip: bool = False  # whether it was trained on mirrored pictures as well, so that losses are means of both
    picture_size: int | None = None  # side of the pictures it was trained on, in pixels; None: as the checkpoint says

    @property
    def name(self) -> str:
        """What people call the model: its folder, file or id without what is before it, and its adapter."""
        base = PurePath(self.checkpoint).name
        return f"{base} + {self.adapter.name}" if self.adapter else base


@dataclass(frozen=True)
class LatentBatch:
    """Examples as a model sees them; only the family that made it reads `conditioning`."""

    example_ids: tuple[str, ...]
    latents: Tensor  # [b c h w]; float16 when read from an index, losses are float32 all the same
    # [b ...]: token ids [b t] for Stable Diffusion, of two text encoders [b 2 t] for SDXL, [b 0] where none are read
    conditioning: Tensor
    mirrored: Tensor | None = None  # [b c h w], of the mirrored pictures, where losses are means of both

    @classmethod
    def of(cls, example_ids: tuple[str, ...], tensors: Mapping[str, Tensor]) -> LatentBatch:
        """From its tensors by name, as `tensors` has them; others are not read."""
        return cls(example_ids, tensors["latents"], tensors["conditioning"], tensors.get("mirrored"))

    @property
    def tensors(self) -> dict[str, Tensor]:
        found = {"latents": self.latents, "conditioning": self.conditioning, "mirrored": self.mirrored}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def rows(self, start: int, stop: int) -> LatentBatch:
        """The examples from `start` up to `stop`."""
        part = slice(start, stop)
        return self.of(self.example_ids[part], {name: tensor[part] for name, tensor in self.tensors.items()})

    def at(self, rows: Sequence[int]) -> LatentBatch:
        """The examples in these rows."""
        rows = list(rows)
        ids = tuple(self.example_ids[row] for row in rows)
        return self.of(ids, {name: tensor[rows] for name, tensor in self.tensors.items()})

    def float(self) -> LatentBatch:
        """The same with latents in float32."""
        mirrored = None if self.mirrored is None else self.mirrored.float()
        return replace(self, latents=self.latents.float(), mirrored=mirrored)

    @property
    def sides(self) -> list[LatentBatch]:
        """The pictures, and where they are there the mirrored ones, as batches of pictures alone."""
        pictures = replace(self, mirrored=None)
        return [pictures] if self.mirrored is None else [pictures, replace(pictures, latents=self.mirrored)]


@dataclass(frozen=True)
class Draws:
    """The (timestep, noise) pairs at which a batch's losses are taken."""

    u: Tensor  # [b d], timestep quantiles in (0, 1)
    noise: Tensor  # [b d c h w], standard normal

    def part(self, examples: slice, draws: slice) -> Draws:
        return Draws(self.u[examples, draws], self.noise[examples, draws])


@dataclass(frozen=True)
class Query:
    """The example whose influences are sought, mostly a picture, as the model sees it."""

    id: str
    sha256: str  # of the picture's original bytes; of its RGB pixels where these are not known
    prompt: str  # as given; may be empty
    latents: Tensor  # [1 c h w]
    conditioning: Tensor  # [1 ...], of the prompt or of the fallback caption
    picture: Image | None = None  # RGB, of any size; None where the query is no picture
    fallback_caption: str | None = None  # the training caption used as the prompt where none was given
    mirrored: Tensor | None = None  # [1 c h w], as a LatentBatch has it

    @property
    def prompted(self) -> bool:
        """Whether a prompt was given, which decides what an answer is compared with."""
        return self.fallback_caption is None

    def batch(self) -> LatentBatch:
        return LatentBatch((self.id,), self.latents, self.conditioning, self.mirrored)


def size_draws_of(settings: Mapping[str, Any], draws: int) -> int:
    """How many of so many draws, the noisiest, a method with these settings measures prediction sizes at.

    All but one at most; 0 for a method without such a setting.
    """
    return min(int(settings.get("size_draws", 0)), draws - 1)


@dataclass(frozen=True)
class InfluenceScores:
    """How strongly each example is estimated to have shaped a query; higher always means more influential."""

    example_ids: tuple[str, ...]
    scores: Tensor  # [n]
    standard_errors: Tensor  # [n]; not a number where a method has one figure for all draws, or a single error
    per_draw: Tensor  # [n d]; [n 1] where a method has one figure for all draws
    left_out: Tensor | None = None  # [n d], the scores without each draw in turn; None over a single draw

    def of(self, example_ids: Collection[str]) -> InfluenceScores:
        """The scores of these examples alone, in the order they have here."""
        kept = [i for i, example_id in enumerate(self.example_ids) if example_id in example_ids]
        ids = tuple(self.example_ids[i] for i in kept)
        left_out = None if self.left_out is None else self.left_out[kept]
        return InfluenceScores(ids, self.scores[kept], self.standard_errors[kept], self.per_draw[kept], left_out)

    def top(self, k: int) -> list[tuple[str, float, float]]:
        """The `k` most influential examples: (id, score, standard error).

        Ties in id order; scores that are not a number come last.
        """
        import numpy as np

        scores = self.scores.nan_to_num(nan=-math.inf).numpy()
        least = np.partition(scores, len(scores) - k)[len(scores) - k] if 0 < k < len(scores) else -math.inf
        rows = np.flatnonzero(scores >= least)  # more than k only where some tie for the last place
        ids = np.array([self.example_ids[i] for i in rows])
        order = rows[np.lexsort((ids, -scores[rows]))][: max(0, k)].tolist()
        return [(self.example_ids[i], float(self.scores[i]), float(self.standard_errors[i])) for i in order]

    def rank_of(self, example_id: str) -> int:
        """1 for the most influential; ties, and scores that are not a number, count against it."""
        score = self.scores[self.example_ids.index(example_id)]
        return int((~(self.scores < score)).sum())
