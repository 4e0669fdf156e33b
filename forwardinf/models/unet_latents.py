"""What families of diffusion models with a UNet on latents share: encoding, losses, features, generation.

A family says how its text encoders read a batch's conditioning, and what its UNet is told of that. How latents are
noised is `noise`; which weights may move, `weights`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from PIL import ImageOps
from torch.nn.functional import adaptive_avg_pool2d

from ..config import require_precision, usual_fit
from ..examples.fit import Fit
from ..stopping import check
from ..types import Draws, LatentBatch, ModelSpec
from .adapters import PlacedAdapter
from .captions import Captions
from .checkpoint import require_device
from .fingerprint import contents_of, fingerprint_of
from .generation import GenerationRequest
from .honoured import require_honoured, side_of
from .noise import CumulativeAlphas, Noised, NoiseSchedule
from .prompts import PromptReader
from .protocol import LARGE, CaptionedPicture
from .weights import TunableWeights

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image
    from torch import Tensor

FEATURE_LEVEL = 0.15  # share of the noise schedule at which features are read
FEATURE_GRID = 4
FEATURES = 256


class LatentDiffusion(ABC):
    """A PictureModel around a diffusers pipeline, which stays in evaluation mode.

    The pipeline is loaded in float32 and run in `spec.dtype`, so that a model's fingerprint does not depend on the
    latter; tunable weights stay in float32. Raises UnsupportedModel where a loss would depend on something that the
    family does not read, InvalidSettings for a device or precision that cannot be used.
    """

    addition: ClassVar[str | None] = None  # what the UNet is told beside the prompt, as its addition_embed_type has it
    latent_statistics: ClassVar[bool] = False  # whether latents are standardised where the VAE's configuration says how

    def __init__(self, pipeline: DiffusionPipeline, spec: ModelSpec, encoders: Mapping[str, str]) -> None:
        """`encoders` has the name of each text encoder's tokenizer, both as the pipeline's components are named."""
        require_device(spec.device)
        require_precision(spec.dtype)
        require_honoured(pipeline, self.addition, self.latent_statistics, tuple(encoders))
        self.spec, self.pipeline = replace(spec, fit=spec.fit or usual_fit(spec)), pipeline
        tokenizers = {name: getattr(pipeline, name) for name in encoders.values()}
        self._readers = tuple(PromptReader(tokenizers[t], getattr(pipeline, e)) for e, t in encoders.items())
        networks = {name: getattr(pipeline, name) for name in ("unet", "vae", *encoders)}
        for network in networks.values():
            network.eval().requires_grad_(False)
        self._noise: NoiseSchedule = CumulativeAlphas.of(pipeline.scheduler, spec.device)
        texts = {name: contents_of(tokenizer) for name, tokenizer in tokenizers.items()}
        deciding = {"noise": self._noise.settings, "tokenizers": texts, **self._deciding()}
        adapted = {name: network for name, network in networks.items() if name != "vae"}
        placed = PlacedAdapter.read(spec.adapter, adapted) if spec.adapter else None
        if placed:
            deciding["adapter"] = placed.deciding
        self.fingerprint = fingerprint_of(networks, deciding)
        self._adapter = placed.attach(adapted) if placed else None
        pipeline.set_progress_bar_config(disable=True)
        torch.backends.cudnn.allow_tf32 = False  # its 10 bits would round away most of what a query moves
        self._dtype: torch.dtype = getattr(torch, spec.dtype)
        for name, network in networks.items():
            network.to(spec.device, torch.float32 if name == "unet" else self._dtype)
        self.unet, self.vae = pipeline.unet.to(memory_format=torch.channels_last), pipeline.vae
        for network in networks.values():
            _heed_stops(network)
        self._encoders = [networks[name] for name in encoders]
        self._captions = Captions(self._read, self._encoders, spec.device)
        self._tunable = TunableWeights(self.unet, spec.tunable, self._dtype)
        factor: int = pipeline.vae_scale_factor
        self.picture_size = side_of(self.unet) * factor
        halvings = len(self.unet.config.block_out_channels) - 1
        self.fit = Fit(self.spec.fit or "", self.picture_size, factor * 2**halvings)

    @abstractmethod
    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Token ids `[b ...]`, as `_read` takes them; any thread may call it."""

    @abstractmethod
    def _read(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """What the text encoders make of `[b ...]` token ids: hidden states `[b t hidden]`, then what else they say."""

    def _predicted(self, x_t: Tensor, t: Tensor, *read: Tensor) -> Tensor:
        """The UNet's output for noised latents, timesteps and what `_read` gave, a row each."""
        output: Tensor = self.unet(x_t, t, *read).sample
        return output

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
        """Posterior means of RGB pictures of one shape, scaled as the UNet sees them, `[b c h w]`."""
        pixels = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]) / 127.5 - 1  # [b h w 3]
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.vae.device, self.vae.dtype)
        return self._scaled(self.vae.encode(x).latent_dist.mean)

    def _scaled(self, latents: Tensor) -> Tensor:
        return latents * self.vae.config.scaling_factor

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
        if self.unet.is_gradient_checkpointing:
            return False
        self.unet.enable_gradient_checkpointing()
        return True

    def loss(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Mean squared error against the schedule's target, `[b d]` (Ho et al. 2020, eq. 14; v: Salimans & Ho 2022).

        The squared error is taken in float32 whatever dtype the UNet runs in.
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
        """The UNet's output, of whichever prediction type, `[b d c h w]`; of both pictures `[b d 2c h w]`."""
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
        """The UNet's output `[bd c h w]` in float32, and what it was given for it."""
        d = draws.u.shape[1]
        device, dtype = self.unet.device, self._dtype
        eps = draws.noise.to(device, torch.float32).flatten(0, 1)  # [bd c h w]
        x_0 = batch.latents.to(device, torch.float32).repeat_interleave(d, dim=0)
        noised = self._noise.noised(x_0, eps, draws.u.flatten())
        read = [part.to(dtype).repeat_interleave(d, dim=0) for part in self._captions(batch.conditioning)]
        at_once = 1 if self.spec.device == "cpu" and x_0[0, 0].numel() >= LARGE else len(x_0)
        parts = zip(*(rows.split(at_once) for rows in (noised.x_t.to(dtype), noised.t, *read)), strict=True)
        return torch.cat([self._predicted(*part).float() for part in parts]), noised

    @torch.no_grad()
    def features(self, latents: Tensor) -> Tensor:
        """Activations behind an upper block of the UNet on clean latents and an empty prompt, `[b 256]` in float32.

        The block and the low noise level follow DIFT (Tang et al. 2023, arXiv 2306.03881); instead of adding noise,
        latents are only scaled to the level. Activations are averaged over a 4 × 4 grid and projected at random, with
        a fixed seed, which keeps inner products (Johnson & Lindenstrauss 1984).
        """
        blocks, seen = self.unet.up_blocks, []
        x_t, t = self._noise.scaled(latents.to(self.unet.device), FEATURE_LEVEL)
        nothing = self._captions(self.encode_prompt([""]))
        read = [part.to(self._dtype).expand(len(x_t), *part.shape[1:]) for part in nothing]
        hook = blocks[(len(blocks) - 1) // 2].register_forward_hook(lambda _block, _inputs, output: seen.append(output))
        try:
            self._predicted(x_t.to(self._dtype), t, *read)
        finally:
            hook.remove()
        grid = adaptive_avg_pool2d(seen[0].float(), FEATURE_GRID).flatten(1).cpu()
        return grid @ _projection(grid.shape[1])

    @torch.no_grad()
    def generate(
        self, request: GenerationRequest, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> Image.Image:
        """The picture that `request` describes; the same request gives the same picture on the same machine."""

        def report(_pipeline: object, step: int, _timestep: int, tensors: dict) -> dict:
            on_step(step + 1, request.steps)
            return tensors

        result = self.pipeline(
            request.prompt,
            height=self.picture_size,
            width=self.picture_size,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=torch.Generator().manual_seed(request.seed),
            callback_on_step_end=report,
        )
        return result.images[0]


def _heed_stops(network: torch.nn.Module) -> None:
    """Let every block of a network look whether its output is still wanted, before it computes it."""
    for block in network.modules():
        if any(True for _ in block.children()):
            block.register_forward_pre_hook(lambda _block, _inputs: check())


@cache
def _projection(rows: int) -> Tensor:
    """`[rows 256]`, the same everywhere: drawn on the CPU with a fixed seed."""
    return torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(0)) / FEATURES**0.5
