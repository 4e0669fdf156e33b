"""What an influence estimate needs of a model, and what else a model may be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from ..types import Draws, LatentBatch, ModelSpec
from .generation import GenerationRequest

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

    def loss_and_size(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        """The same, and the mean square of what the network answers, by one forward; `[b d]` each."""

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
