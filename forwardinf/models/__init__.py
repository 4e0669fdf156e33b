"""What can be attributed: one file per model family, found by its name or by what a checkpoint says it is.

A family module defines `load(spec) -> PictureModel`, and in PIPELINES the classes of diffusers whose checkpoints it
reads, as model_index.json names them. Adding a family is adding a file; other modules here are what families share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol

from ..errors import UnsupportedModel
from ..generation import GenerationRequest
from ..types import Draws, LatentBatch, ModelSpec

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image
    from torch import Tensor

# Set before any module here imports diffusers.
os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "1")
# Loading a small checkpoint is no news: our own messages are the ones to read.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


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


def load_model(spec: ModelSpec) -> PictureModel:
    """The model that `spec` names, by the loader of its family, or else of the one that reads such a checkpoint.

    Raises UnsupportedModel for an unknown family or kind of checkpoint, MissingAsset or DamagedAsset for files that are
    not as they should.
    """
    families = _families()
    family = spec.family or _family_of(spec, families)
    if family not in families:
        raise UnsupportedModel(f"There is no model family “{family}”; the families here are: {', '.join(families)}.")
    model: PictureModel = families[family].load(spec)
    return model


def _families() -> dict[str, ModuleType]:
    """The modules of all families, by name."""
    modules = {found.name: import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)}
    return {name: module for name, module in sorted(modules.items()) if hasattr(module, "PIPELINES")}


def _family_of(spec: ModelSpec, families: dict[str, ModuleType]) -> str:
    from .checkpoint import pipeline_class

    kind = pipeline_class(spec)
    for name, module in families.items():
        if kind in module.PIPELINES:
            return name
    known = ", ".join(kind for module in families.values() for kind in module.PIPELINES)
    raise UnsupportedModel(
        f"“{Path(spec.checkpoint).name}” {f'is a {kind}' if kind else 'names no class of pipeline'}; here can be read: "
        f"{known}. If it holds the same networks, name its family ({', '.join(families)}): FORWARDINF_FAMILY."
    )
