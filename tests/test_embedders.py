"""Embeddings of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ViTConfig,
    ViTModel,
)

from forwardinf.embedders import load_embedder
from forwardinf.errors import UnsupportedModel
from forwardinf.models.stable_diffusion import StableDiffusion

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}


def pictures(count: int = 5) -> list[Image.Image]:
    """Smooth patches of different sizes."""
    random = np.random.default_rng(0)
    patches = [Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(count)]
    return [patch.resize((24 + 4 * i, 32)) for i, patch in enumerate(patches)]


def saved(network: PreTrainedModel, folder: Path) -> str:
    network.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return str(folder)


def clip(folder: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8, "bos_token_id": 0}
    config = CLIPConfig(text_config={**text, "eos_token_id": 1}, vision_config=SMALL, projection_dim=12)
    return saved(CLIPModel(config), folder)


@pytest.mark.parametrize(("name", "width"), [("unet", 256), ("vae", 256)])
def test_the_models_own_embeddings_are_unit_vectors_whatever_the_batch(
    tiny_model: StableDiffusion, name: str, width: int
):
    embedder = load_embedder(name, tiny_model)
    embeddings = embedder.embed(pictures())
    assert embeddings.shape == (5, width)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(torch.cat([embedder.embed([picture]) for picture in pictures()]), embeddings)
    assert torch.equal(embedder.embed(pictures()), embeddings)
    assert (embedder.name, embedder.fingerprint) == (name, tiny_model.fingerprint)


def test_features_leave_no_hook_behind(tiny_model: StableDiffusion):
    tiny_model.features(torch.randn(2, 4, 8, 8))
    with pytest.raises(RuntimeError):
        tiny_model.features(torch.randn(2, 3, 8, 8))
    assert not any(block._forward_hooks for block in tiny_model.unet.up_blocks)


def test_clip_dinov2_and_networks_without_a_pooler_embed_from_their_folder(tiny_model: StableDiffusion, tmp_path: Path):
    folders = {
        12: clip(tmp_path / "clip"),
        16: saved(Dinov2Model(Dinov2Config(**SMALL)), tmp_path / "dinov2"),
        8: saved(ViTModel(ViTConfig(**SMALL | {"hidden_size": 8}), add_pooling_layer=False), tmp_path / "vit"),
    }
    for width, folder in folders.items():
        embedder = load_embedder(folder, tiny_model)
        embeddings = embedder.embed(pictures())
        assert embeddings.shape == (5, width)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
        assert embedder.name == Path(folder).name
        assert len(embedder.fingerprint) == 64


def test_an_embedder_that_cannot_be_had_is_named_with_what_to_try(tiny_model: StableDiffusion, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name, shown in [("clap", "clap"), ("no/such-model", "no/such-model"), (str(tmp_path / "empty"), "“empty”")]:
        with pytest.raises(UnsupportedModel, match="“unet” or “vae”") as refused:
            load_embedder(name, tiny_model)
        assert shown in str(refused.value)
        assert str(tmp_path) not in str(refused.value)
