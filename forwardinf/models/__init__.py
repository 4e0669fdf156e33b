"""What can be attributed: one file per model family, found by its name.

A family module defines `load(spec) -> PictureModel`. Adding a family is adding a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

from ..errors import UnsupportedModel
from ..generation import GenerationRequest
from ..types import Draws, LatentBatch, ModelSpec

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class AttributableModel(Protocol):
    """A model whose training losses can be taken per example, and whose weights a query may move for a while."""

    spec: ModelSpec
    fingerprint: str  # SHA-256 over the weights and configuration that decide a loss

    def encode_image(self, pictures: Sequence[Image]) -> Tensor:
        """Canonical RGB pictures to latents `[b c h w]`, scaled as the network sees them."""

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Prompts to the conditioning that a LatentBatch carries."""

    def tunable_parameters(self) -> dict[str, Tensor]:
        """The weights that a query may move, by name."""

    def loss(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Training loss of each example at each of its draws, `[b d]` in float32; differentiable."""

    def prediction(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """What the network answers for each example at each of its draws, `[b d ...]` in float32; differentiable."""

    def with_deltas(self, deltas: dict[str, Tensor]) -> AbstractContextManager[None]:
        """The tunable weights moved by `deltas` inside the block; restored bit for bit after it, whatever happens."""


class PictureModel(AttributableModel, Protocol):
    """An attributable model that also draws pictures from prompts, and tells which look alike."""

    picture_size: int  # side of the square pictures it was trained on, in pixels

    def unread_text(self, prompt: str) -> str:
        """The end of a prompt that lies beyond what the model reads; empty where it reads all."""

    def features(self, latents: Tensor) -> Tensor:
        """What the network sees in pictures, `[b f]` in float32: alike where they look alike. No noise is drawn."""

    def generate(self, request: GenerationRequest, on_step: Callable[[int, int], None] = ...) -> Image:
        """The picture that `request` asks for; `on_step(done, total)` is called after each step."""


def load_model(spec: ModelSpec) -> PictureModel:
    """The model that `spec` names, by its family's own loader.

    Raises UnsupportedModel for an unknown family, MissingAsset or DamagedAsset for files that are not as they should.
    """
    if find_spec(f"{__name__}.{spec.family}") is None:
        known = ", ".join(sorted(m.name for m in iter_modules(__path__)))
        raise UnsupportedModel(f"There is no model family “{spec.family}”; the families here are: {known}.")
    model: PictureModel = import_module(f"{__name__}.{spec.family}").load(spec)
    return model
