"""The LoRA of `make bench-lora`: trained on a few pictures, and read again by either program's keys."""

from __future__ import annotations

from pathlib import Path

import torch

from conftest import ASSETS
from forwardinf.models.adapter_file import read_adapter
from forwardinf.training.adapt import LoraRecipe, save_as_kohya, save_as_peft, train_lora
from forwardinf.training.lab import LabImages


def test_a_trained_lora_is_the_same_by_either_programs_keys(tmp_path: Path):
    random, recipe = torch.Generator().manual_seed(0), LoraRecipe(steps=3, batch=2, rank=2, alpha=3.0)
    latents, contexts = (torch.randn(2, *shape, generator=random) for shape in ((16, 8, 8), (22, 128)))
    factors = train_lora(ASSETS / "emoji-diffusion", recipe, LabImages(("a", "b"), latents, contexts, contexts[:1]))
    assert any(up.any() for _, up in factors.values())  # which were zero
    kohya = read_adapter(str(save_as_kohya(factors, recipe, tmp_path / "style.safetensors")))
    peft = read_adapter(str(save_as_peft(factors, recipe, tmp_path / "style")))
    for path, (down, up) in factors.items():
        for file, key in ((kohya, "lora_unet_" + path.replace(".", "_")), (peft, f"base_model.model.{path}")):
            (layer,) = [layer for layer in file.layers if layer.key == key]
            assert torch.equal(layer.parts["down"], down)
            assert torch.equal(layer.parts["up"], up)
            assert file.scale_of(layer, "unet", path) == 1.5
    assert len(kohya.layers) == len(peft.layers) == len(factors)
