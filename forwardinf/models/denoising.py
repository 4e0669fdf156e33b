"""What families of denoising models share: conditioning, losses, weights that move, features, generation.

A family says which network denoises, how pictures become what that sees, how its text encoders read a batch's
conditioning, and what the network is told of it. How pictures are noised is `noise`; which weights may move, `weights`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import ImageOps

from ..config import require_precision, usual_fit
from ..errors import InvalidSettings
from ..examples.fit import Fit
from ..types import Draws, LatentBatch, ModelSpec
from .adapters import PlacedAdapter
from .captions import Captions
from .checkpoint import require_device
from .features import LEVEL, summary_of
from .fingerprint import contents_of, fingerprint_of
from .generation import GenerationRequest
from .noise import CumulativeAlphas, Noised, NoiseSchedule
from .placing import heed_stops, put
from .prompts import PromptReader
from .protocol import LARGE, CaptionedPicture
from .weights import TunableWeights

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image
    from torch import Tensor, nn


class DenoisingModel(ABC):
    """A PictureModel around a diffusers pipeline, which stays in evaluation mode.

    The pipeline is loaded in float32 and run in `spec.dtype`, so that a model's fingerprint does not depend on the
    latter; tunable weights stay in float32. Raises UnsupportedModel where a loss would depend on something that the
    family does not read, InvalidSettings for a device or precision that cannot be used.
    """

    denoiser_name: ClassVar[str] = "unet"  # as the pipeline names the network that denoises
    family: str  # as people call it
    reads_prompts = True

    def __init__(self, pipeline: DiffusionPipeline, spec: ModelSpec, encoders: Mapping[str, str]) -> None:
        """`encoders` has the name of each text encoder's tokenizer, both as the pipeline's components are named."""
        require_device(spec.device)
        require_precision(spec.dtype)
        self.spec, self.pipeline = replace(spec, fit=spec.fit or usual_fit(spec)), pipeline
        self._require_honoured(tuple(encoders))
        usual = self._usual_side()
        self.picture_size = self._side(usual)
        self.fit = Fit(self.spec.fit or "", self.picture_size, self._unit())
        tokenizers = {name: getattr(pipeline, name) for name in encoders.values()}
        self._readers = tuple(self._reader(tokenizers[t], getattr(pipeline, e)) for e, t in encoders.items())
        names = (self.denoiser_name, *(("vae",) if hasattr(pipeline, "vae") else ()), *encoders)
        networks = {name: getattr(pipeline, name) for name in names}
        for network in networks.values():
            network.eval().requires_grad_(False)
        self._noise = self._schedule()
        texts = {name: contents_of(tokenizer) for name, tokenizer in tokenizers.items()}
        deciding = {"noise": self._noise.settings, "tokenizers": texts, **self._deciding()}
        if self.picture_size != usual:
            deciding["picture_size"] = self.picture_size
        adapted = {name: network for name, network in networks.items() if name != "vae"}
        placed = self._placed(adapted)
        if placed:
            deciding["adapter"] = placed.deciding
        self.fingerprint = fingerprint_of(networks, deciding)
        self._adapter = placed.attach(adapted) if placed else None
        pipeline.set_progress_bar_config(disable=True)
        torch.backends.cudnn.allow_tf32 = False  # its 10 bits would round away most of what a query moves
        self._dtype: torch.dtype = getattr(torch, spec.dtype)
        for name, network in networks.items():
            put(network, spec.device, torch.float32 if name == self.denoiser_name else self._dtype)
            heed_stops(network)
        self.denoiser: Any = networks[self.denoiser_name].to(memory_format=torch.channels_last)
        self._encoders = [networks[name] for name in encoders]
        self._captions = Captions(self._read, self._encoders, spec.device)
        self._tunable = TunableWeights(self.denoiser, spec.tunable, self._dtype)

    @abstractmethod
    def _require_honoured(self, encoders: Sequence[str]) -> None:
        """Raise UnsupportedModel naming what the pipeline's configuration asks for beyond what is done here."""

    @abstractmethod
    def _usual_side(self) -> int:
        """Side of the pictures that a checkpoint says it was trained on, in pixels."""

    @abstractmethod
    def _unit(self) -> int:
        """What the side of a picture has to be a multiple of, in pixels."""

    def _side(self, usual: int) -> int:
        if (side := self.spec.picture_size or usual) % self._unit():
            raise InvalidSettings(
                f"Pictures of {side} × {side} do not fit this model: their side must be a multiple of {self._unit()}."
            )
        return side

    @abstractmethod
    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids `[b ...]`, as `_read` takes them; any thread may call it."""

    @abstractmethod
    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """What the text encoders make of `[b ...]` token ids: hidden states `[b t hidden]`, then what else they say."""

    @abstractmethod
    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        """The network's output for noised latents, timesteps and what `_read` gave, a row each."""

    @abstractmethod
    def _latents(self, pixels: Tensor) -> Tensor:
        """What the network denoises `[b c h w]`, of pictures `[b 3 h w]` from -1 to 1."""

    @abstractmethod
    def _watched(self) -> nn.Module:
        """The block of the network whose output tells likeness."""

    def _map_of(self, output: Any, latents: Tensor) -> Tensor:  # noqa: ANN401
        """That block's output for these latents as a map `[b c h w]`."""
        found: Tensor = output
        return found

    def _reader(self, tokenizer: Any, encoder: Any) -> PromptReader:  # noqa: ANN401
        return PromptReader(tokenizer, encoder)

    def _schedule(self) -> NoiseSchedule:
        return CumulativeAlphas.of(self.pipeline.scheduler, self.spec.device)

    def _placed(self, networks: Mapping[str, Any]) -> PlacedAdapter | None:
        return PlacedAdapter.read(self.spec.adapter, networks, self.denoiser_name) if self.spec.adapter else None

    def _deciding(self) -> dict[str, Any]:
        """What decides a loss beside networks, tokenizers and noise schedule, in JSON's types."""
        return {}

    def encode(self, examples: Sequence[CaptionedPicture]) -> LatentBatch:
        """Pictures of sizes that get one shape by `fit`, and their captions; where `flip` says so mirrored as well."""
        shown = [self.fit.of(example.picture, example.size) for example in examples]
        conditioning = self.encode_prompt([example.caption for example in examples])
        mirrored = self.encode_image([ImageOps.mirror(one) for one in shown]) if self.spec.flip else None
        ids = tuple(example.id for example in examples)
        return LatentBatch(ids, self.encode_image(shown), conditioning, mirrored)

    @torch.no_grad()
    def encode_image(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of one shape as the network sees them, `[b c h w]`: of an autoencoder the means."""
        pixels = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]) / 127.5 - 1  # [b h w 3]
        return self._latents(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.spec.device))

    def unread_text(self, prompt: str) -> str:
        """The end of a prompt that is too long for the (first) text encoder; empty where it reads all."""
        return self._readers[0].unread(prompt)

    def tunable_parameters(self) -> dict[str, Tensor]:
        return dict(self._tunable.by_name)

    def with_deltas(self, deltas: dict[str, Tensor]) -> AbstractContextManager[None]:
        return self._tunable.moved(deltas)

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The base model inside the block, also for prompts; nothing changes where there is no adapter."""
        if self._adapter is None:
            yield
            return
        captions, self._captions = self._captions, Captions(self._read, self._encoders, self.spec.device)
        try:
            with self._adapter.left_out():
                yield
        finally:
            self._captions = captions

    def save_memory(self) -> bool:
        """Compute activations again on the way back, a block at a time (Chen et al. 2016, arXiv 1604.06174)."""
        if self.denoiser.is_gradient_checkpointing:
            return False
        self.denoiser.enable_gradient_checkpointing()
        return True

    def loss(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Mean squared error against the schedule's target, `[b d]`, of which `noise` tells the source.

        The squared error is taken in float32 whatever dtype the network runs in.
        """
        return self.loss_and_size(batch, draws)[0]

    def loss_and_size(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        """Means over a picture and its mirrored one, where the batch has both; these share noise and timesteps."""
        losses, sizes = [], []
        for predicted, noised in (self._denoised(side, draws) for side in batch.sides):
            losses.append((predicted - noised.target).square().mean(dim=(1, 2, 3)))
            sizes.append(predicted.square().mean(dim=(1, 2, 3)))
        loss, size = (torch.stack(values).mean(dim=0).view(draws.u.shape) for values in (losses, sizes))
        return loss, size

    def prediction(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """The network's output, of whichever prediction type, `[b d c h w]`; of both pictures `[b d 2c h w]`."""
        outputs = [self._denoised(side, draws)[0].unflatten(0, draws.u.shape) for side in batch.sides]
        return torch.cat(outputs, dim=2)

    def error_map(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """The squared error that `loss` takes the mean of, over channels alone, `[b d h w]`; as the picture lies."""
        maps = []
        for turned, side in enumerate(batch.sides):
            predicted, noised = self._denoised(side, draws)
            rise = (predicted - noised.target).square().mean(dim=1).unflatten(0, draws.u.shape)
            maps.append(rise.flip(-1) if turned else rise)
        return torch.stack(maps).mean(dim=0)

    def _denoised(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Noised]:
        """The network's output `[bd c h w]` in float32, and what it was given for it."""
        d, device = draws.u.shape[1], self.spec.device
        eps = draws.noise.to(device, torch.float32).flatten(0, 1)  # [bd c h w]
        x_0 = batch.latents.to(device, torch.float32).repeat_interleave(d, dim=0)
        noised = self._noise.noised(x_0, eps, draws.u.flatten())
        read = [self._cast(part).repeat_interleave(d, dim=0) for part in self._captions(batch.conditioning)]
        at_once = 1 if self.spec.device == "cpu" and x_0[0, 0].numel() >= LARGE else len(x_0)
        parts = zip(*(rows.split(at_once) for rows in (self._cast(noised.x_t), noised.t, *read)), strict=True)
        return torch.cat([self._predicted(*part).float() for part in parts]), noised

    def _cast(self, part: Tensor) -> Tensor:
        """In the precision that the network runs in; masks stay what they are."""
        return part.to(self._dtype) if part.is_floating_point() else part

    @torch.no_grad()
    def features(self, latents: Tensor) -> Tensor:
        """Activations behind a block of the network on clean latents and an empty prompt, `[b 256]` in float32.

        The low noise level, and of a UNet the block, follow DIFT (Tang et al. 2023, arXiv 2306.03881); instead of
        adding noise, latents are only scaled to the level.
        """
        seen: list[Any] = []
        x_t, t = self._noise.scaled(latents.to(self.spec.device), LEVEL)
        nothing = self._captions(self.encode_prompt([""]))
        read = [self._cast(part).expand(len(x_t), *part.shape[1:]) for part in nothing]
        hook = self._watched().register_forward_hook(lambda _block, _inputs, output: seen.append(output))
        try:
            self._predicted(self._cast(x_t), t.expand(len(x_t)), *read)
        finally:
            hook.remove()
        return summary_of(self._map_of(seen[0], latents))

    @torch.no_grad()
    def generate(
        self, request: GenerationRequest, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> Image.Image:
        """The picture that `request` describes; the same request gives the same picture on the same machine."""

        def report(_pipeline: object, step: int, _timestep: int, tensors: dict) -> dict:
            on_step(step + 1, request.steps)
            return tensors

        result = self.pipeline(
            prompt=request.prompt,
            height=self.picture_size,
            width=self.picture_size,
            num_inference_steps=request.steps,
            generator=torch.Generator().manual_seed(request.seed),
            callback_on_step_end=report,
            **self._told(request),
        )
        return result.images[0]

    def _told(self, request: GenerationRequest) -> dict[str, Any]:
        """How the pipeline is told of guidance, and what else the family tells it."""
        return {"guidance_scale": request.guidance}
