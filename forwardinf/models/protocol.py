"""What an influence estimate needs of a model, and what else a model may be able to do.

Whatever is attributed is an AttributableModel: a diffusion model, a classifier, a language model. One without a noise
schedule takes its loss at a single draw and ignores the noise. The other protocols are abilities that some have; what
needs one asks for it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import UnsupportedModel
from ..examples.fit import Fit
from ..types import Draws, LatentBatch, ModelSpec
from .generation import GenerationRequest

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


class AttributableModel(Protocol):
    """A model whose training loss can be taken per example, and whose weights a query may move for a while.

    Only one thread may use a model at a time, but for methods that say otherwise.
    """

    spec: ModelSpec
    fingerprint: str  # SHA-256 over all that decides a loss: weights, configuration, tokenizers, noise schedule

    def encode(self, examples: Sequence[Any]) -> LatentBatch:
        """Examples, of whichever kind the model was trained on, as it sees them."""

    def tunable_parameters(self) -> dict[str, Tensor]:
        """The weights that a query may move, by name."""

    def loss(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Training loss of each example at each of its draws, `[b d]` in float32; differentiable."""

    def with_deltas(self, deltas: dict[str, Tensor]) -> AbstractContextManager[None]:
        """The tunable weights with `deltas` added inside the block; restored bit for bit after it, whatever happens."""


@runtime_checkable
class PredictingModel(AttributableModel, Protocol):
    """A model with an output that can be measured apart from its error."""

    def loss_and_size(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        """The loss, and the mean square of the prediction, by one forward; `[b d]` each."""

    def prediction(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """The prediction for each example at each of its draws, `[b d ...]` in float32; differentiable."""


@runtime_checkable
class LocatingModel(AttributableModel, Protocol):
    """A model whose loss is a mean over places in an example."""

    def error_map(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """What the loss is the mean of, place by place, `[b d h w]` in float32."""


# Latent positions from which on a CPU takes latents one by one: 64 × 64. Together they would take no less time, but
# gigabytes; and a CPU has no limit that could be met and stepped back from, as the system ends what takes too much.
LARGE = 2**12


@runtime_checkable
class SavingMemory(Protocol):
    """A model whose gradients can be taken with less memory, in more time."""

    def save_memory(self) -> bool:
        """Keep fewer activations for every gradient from now on; False where that is so already."""


@runtime_checkable
class AdaptedModel(AttributableModel, Protocol):
    """A model with an adapter on it that can be left out for a while."""

    def without_adapter(self) -> AbstractContextManager[None]:
        """The base model inside the block."""


@dataclass(frozen=True)
class CaptionedPicture:
    """What a text-to-image model is trained on, and what a query is to it."""

    id: str
    picture: Image  # RGB, of any size
    caption: str
    size: tuple[int, int] | None = None  # the width and height that it was made, where it was reduced to be read


class PictureEncoder(Protocol):
    """Sees pictures."""

    picture_size: int  # side of the square pictures that the model was trained on, in pixels
    fit: Fit  # how pictures are made those that it is shown

    def encode_image(self, pictures: Sequence[Image]) -> Tensor:
        """RGB pictures of one shape that `fit` gives to latents `[b c h w]`, scaled as the network sees them."""

    def features(self, latents: Tensor) -> Tensor:
        """Features `[b f]` in float32, alike where pictures look alike; no noise is drawn."""


class PromptEncoder(Protocol):
    """Reads prompts; any thread may call it."""

    reads_prompts: bool  # False for an unconditional model, which takes any prompt for none

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Prompts to the conditioning that a LatentBatch carries."""

    def unread_text(self, prompt: str) -> str:
        """The end of a prompt that is too long for the model to read; empty where it reads all."""


class PictureGenerator(Protocol):
    """Draws pictures."""

    def generate(self, request: GenerationRequest, on_step: Callable[[int, int], None] = ...) -> Image:
        """The picture that `request` describes; `on_step(done, total)` is called after each step."""


class PictureModel(PredictingModel, LocatingModel, PictureEncoder, PromptEncoder, PictureGenerator, Protocol):
    """A text-to-image model with all of these abilities; `encode` takes CaptionedPictures."""

    family: str  # as people call it


def adapted(model: AttributableModel) -> AdaptedModel | None:
    """The same model, as one whose adapter can be left out; None where it has none."""
    return model if model.spec.adapter is not None and isinstance(model, AdaptedModel) else None


def predicting(model: AttributableModel) -> PredictingModel:
    """The same model, as one whose predictions can be measured; raises UnsupportedModel where they cannot."""
    if not isinstance(model, PredictingModel):
        raise UnsupportedModel(
            f"“{model.spec.checkpoint}” has a loss but no prediction whose size could be measured. Try a method that "
            "needs losses alone, such as plain, or forward_inf with size_draws=0."
        )
    return model
