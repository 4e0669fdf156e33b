"""Whether everything that a checkpoint's configuration demands is done here; what is not would give wrong losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UnsupportedModel

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, UNet2DConditionModel
    from diffusers.configuration_utils import FrozenDict

# Inputs of a UNet beside latents, timesteps and text, as its configuration names them, and who has them.
_OTHER_INPUTS = {
    "time_cond_proj_dim": "a guidance scale, as distilled models (LCM) do; they were not trained by a denoising loss",
    "class_embed_type": "classes or an image embedding, as upscalers and unCLIP do",
    "num_class_embeds": "classes, as upscalers do",
    "encoder_hid_dim_type": "an image embedding beside the text, as Kandinsky and IP-Adapter do",
}


def require_honoured(
    pipeline: DiffusionPipeline, addition: str | None, latent_statistics: bool, encoders: Sequence[str]
) -> None:
    """Raise UnsupportedModel naming what a pipeline's configuration asks for beyond what its family does.

    `addition` is the additional embedding that the family gives its UNet; `latent_statistics`, whether it standardises
    latents; `encoders`, the components whose hidden states the UNet reads, side by side.
    """
    unet, vae = pipeline.unet.config, pipeline.vae.config
    for name, whose in _OTHER_INPUTS.items():
        if unet.get(name) is not None:
            raise UnsupportedModel(f"The UNet also takes {whose} ({name}). {_BASE}")
    if unet.addition_embed_type != addition:
        raise UnsupportedModel(
            f"The UNet's additional embedding is “{unet.addition_embed_type}”; this family's is “{addition}”. "
            "Try the checkpoint as another family (FORWARDINF_FAMILY)."
        )
    _require_channels(unet, vae)
    _require_scaling(vae, latent_statistics)
    width = sum(getattr(pipeline, name).config.hidden_size for name in encoders)
    if isinstance(unet.cross_attention_dim, int) and unet.cross_attention_dim != width:
        raise UnsupportedModel(
            f"The UNet reads {unet.cross_attention_dim} numbers per token, but the text encoders here give {width}. "
            "They are not of one checkpoint; try a complete copy of it."
        )
    side_of(pipeline.unet)


def side_of(unet: UNet2DConditionModel) -> int:
    """Side of the square latents that a UNet was trained on; raises UnsupportedModel where there is none."""
    size = unet.config.sample_size
    sides = {size} if isinstance(size, int) else set(size or ())
    if not sides:
        raise UnsupportedModel(
            "The UNet's configuration has no sample_size, so the size of its training pictures is not known. Write it "
            "into unet/config.json: the side of the pictures in pixels, divided by 8 for most autoencoders."
        )
    if len(sides) > 1:
        raise UnsupportedModel(
            f"The UNet was trained on latents of {' × '.join(map(str, size))} (sample_size), but only square pictures "
            "can be attributed. Try a checkpoint that was trained on square ones."
        )
    return int(sides.pop())


def _require_channels(unet: FrozenDict, vae: FrozenDict) -> None:
    if unet.in_channels != vae.latent_channels:
        raise UnsupportedModel(
            f"The UNet takes {unet.in_channels} channels, but the autoencoder's latents have {vae.latent_channels}: it "
            f"needs another picture beside the prompt, as models for inpainting and editing do. {_BASE}"
        )
    if unet.out_channels != vae.latent_channels:
        raise UnsupportedModel(
            f"The UNet predicts {unet.out_channels} channels, but the autoencoder's latents have "
            f"{vae.latent_channels}, so its training loss is not known. {_BASE}"
        )
    if vae.in_channels != 3:
        raise UnsupportedModel(f"The autoencoder takes {vae.in_channels} channels; pictures here have three. {_BASE}")


def _require_scaling(vae: FrozenDict, latent_statistics: bool) -> None:
    given = [name for name in ("latents_mean", "latents_std") if vae.get(name) is not None]
    unread = [] if latent_statistics and len(given) == 2 else given
    if vae.get("shift_factor"):
        unread.append("shift_factor")
    if unread:
        raise UnsupportedModel(
            f"The autoencoder's configuration has {' and '.join(unread)}, which this family's pipeline does not read, "
            "so it is not known on which latents the UNet was trained. Try the checkpoint's original autoencoder."
        )


_BASE = "Try the text-to-image checkpoint that it was made from."
