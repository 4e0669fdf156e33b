"""Train a LoRA on a few pictures over the shipped model, and save it by the keys that people's files have.

The attention's matrices get factors of a low rank (Hu et al. 2021, arXiv 2106.09685), by PEFT; nothing else is trained.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file

from ..models.sd import load
from ..types import ModelSpec
from .diffusion import weighted_loss
from .lab import LabImages
from .loop import Plan, Trainer

MATRICES = ["to_q", "to_k", "to_v", "to_out.0"]
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]  # down [r n] and up [m r], by the path of the layer


@dataclass(frozen=True)
class LoraRecipe:
    """How an adapter is trained on its pictures."""

    steps: int = 300
    batch: int = 20
    learning_rate: float = 2e-3
    rank: int = 8
    alpha: float = 8.0


def train_lora(shipped: Path, recipe: LoraRecipe, images: LabImages, seed: int = 0) -> Factors:
    """The factors of each matrix; a pure function of its arguments. Every batch has the pictures in turn."""
    model = load(ModelSpec(str(shipped), tunable="attention"))
    config = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=MATRICES, init_lora_weights="gaussian")
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        unet = inject_adapter_in_model(config, model.unet)
    alphas = model.pipeline.scheduler.alphas_cumprod
    kept: Factors = {}

    def loss_of(seen: int, n: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed * 2**20 + seen)
        # Timesteps rise along a batch; the order is random so that every picture is shown at all of them.
        rows = torch.arange(seen, seen + n)[torch.randperm(n, generator=random)] % len(images.ids)
        return weighted_loss(unet, alphas, images.latents[rows], images.contexts[rows], random)

    def keep() -> None:
        for path, layer in unet.named_modules():
            if hasattr(layer, "lora_A"):
                kept[path] = tuple(part["default"].weight.detach().clone() for part in (layer.lora_A, layer.lora_B))

    total = recipe.steps * recipe.batch
    plan = Plan(total, recipe.batch, recipe.learning_rate, warmup=total // 20 + 1, average_over=total // 20 + 1)
    with tempfile.TemporaryDirectory(prefix="forwardinf-lora-") as work:
        Trainer({"unet": unet}, plan, Path(work)).run(loss_of, keep)
    return kept


def save_as_kohya(factors: Factors, recipe: LoraRecipe, file: Path) -> Path:
    """A file with the keys of kohya's sd-scripts."""
    tensors: dict[str, torch.Tensor] = {}
    for path, (down, up) in factors.items():
        stem = f"lora_unet_{path.replace('.', '_')}"
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        tensors[f"{stem}.alpha"] = torch.tensor(recipe.alpha)
    save_file(tensors, file)
    return file


def save_as_peft(factors: Factors, recipe: LoraRecipe, folder: Path) -> Path:
    """A folder as PEFT writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{path}.lora_{matrix}.weight": factor
        for path, both in factors.items()
        for matrix, factor in zip("AB", both, strict=True)
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": recipe.rank, "lora_alpha": recipe.alpha, "target_modules": MATRICES}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
