"""CLIP, DINOv2 and other networks of transformers that embed pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoModel

from ..errors import UnsupportedModel
from ..models.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class PretrainedEmbedder:
    """CLIP's projected image features; for other networks the pooled output, or the first (class) token."""

    name: str
    network: Any  # a transformers model in evaluation mode
    processor: Any
    fingerprint: str

    @torch.no_grad()
    def embed(self, pictures: Sequence[Image]) -> Tensor:
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self.network.device)
        if hasattr(self.network, "get_image_features"):
            seen = self.network.get_image_features(pixel_values=pixels)
        else:
            seen = self.network(pixel_values=pixels)
        pooled = seen.pooler_output if seen.get("pooler_output") is not None else seen.last_hidden_state[:, 0]
        return normalize(pooled.flatten(1).float().cpu(), dim=1)


def load(name: str, device: str) -> PretrainedEmbedder:
    """A Hub id or a folder, safetensors only and without remote code; raises UnsupportedModel naming what to try."""
    folder = Path(name)
    shown = folder.name if folder.is_dir() else name
    try:
        network = AutoModel.from_pretrained(name, use_safetensors=True).eval().to(device)
        # Resizing is Pillow's even where torchvision is installed, so that embeddings are the same everywhere.
        processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    except (OSError, ValueError) as error:
        why = str(error).replace(str(folder), shown).splitlines()[0]
        raise UnsupportedModel(
            f"The embedder “{shown}” could not be loaded: {why} Try “unet” or “vae”, which need nothing else, or the "
            "folder of a CLIP or DINOv2 checkpoint with config.json, model.safetensors and preprocessor_config.json."
        ) from error
    preparing = {key: value for key, value in processor.to_dict().items() if not key.endswith("_processor_type")}
    return PretrainedEmbedder(shown, network, processor, fingerprint_of({"network": network}, {"pictures": preparing}))
