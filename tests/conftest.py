"""Tiny models built from configs, and the shipped assets."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# No test reaches for the network; set before huggingface_hub and Ray read it.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # or one is left in the home folder

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.tables import table_of
from forwardinf.draws import DrawPlan
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.store import Index
from forwardinf.methods.protocol import AttributionMethod, QueryState
from forwardinf.models.protocol import AttributableModel
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.sweep.executors.threads import measured_by_batch
from forwardinf.sweep.losses import losses
from forwardinf.sweep.table import Table
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import Draws, LatentBatch, ModelSpec

ASSETS = Path(__file__).parent.parent / "assets"
REPEATED = ("flamingo, Fluent style", "pineapple, Noto style", "snail, OpenMoji style")
CAPTIONS = ["red apple, OpenMoji style", "green pear, Noto style"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in the browser come first, so that one of several processes has them all: it alone needs the apps.

    Left to the end they would be what is waited for. Whoever is done sooner takes tests from the other.
    """
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


def tiny_pipeline(prediction_type: str = "v_prediction", seed: int = 0) -> StableDiffusionPipeline:
    """An untrained Stable Diffusion of a few thousand weights: 16×16 pictures, 8×8×4 latents."""
    torch.manual_seed(seed)
    tokenizer = learn_tokenizer(CAPTIONS, size=600)
    return StableDiffusionPipeline(
        vae=tiny_vae(),
        unet=tiny_unet(cross_attention_dim=8),
        text_encoder=CLIPTextModel(tiny_text_config(tokenizer)),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            prediction_type=prediction_type, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
        sample_size=16,
    )


def tiny_unet(**config: object) -> UNet2DConditionModel:
    small = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**small, **config})


def tiny_text_config(tokenizer: CLIPTokenizer, **config: object) -> CLIPTextConfig:
    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{**small, **config},
    )


def write_patches(folder: Path, count: int) -> Path:
    """An image folder of smooth colour patches."""
    random = np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w") as lines:
        for i in range(count):
            patch = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((32, 32))
            patch.save(folder / f"{i:02}.png")
            row = {"file_name": f"{i:02}.png", "text": f"patch {i}", "creator": "Ada", "licence": "CC0-1.0"}
            lines.write(json.dumps(row) + "\n")
    return folder


def table(attributor: Attributor, state: QueryState, method: AttributionMethod, batch_size: int | None = None) -> Table:
    """What a whole sweep measures."""
    return table_of(attributor.index, state, tuple(attributor.sweep(state, method, batch_size)))


def measured(
    model: AttributableModel, batch: LatentBatch, plan: DrawPlan, batch_size: int | None = None
) -> torch.Tensor:
    """Losses `[n d]` of a batch as a sweep takes them."""

    def measure(part: LatentBatch) -> torch.Tensor:
        return losses(model, part, plan.draws(part.example_ids, part.latents.shape[1:]))

    return torch.cat([values for _, values in measured_by_batch(model, [batch], plan.count, measure, batch_size)])


@pytest.fixture
def tiny_model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The shipped model's index of 60 of its training images, of which 3 were shown repeatedly, and 4 held-out ones.

    With so many draws that a sweep takes long enough to be watched and stopped.
    """
    artwork = Catalog.load(ASSETS / "emoji")
    train, held_out = artwork.of_split("train").images, artwork.of_split("held_out").images
    named = [image for image in train if image.caption in ("red apple, OpenMoji style", *REPEATED)]
    few = sorted((*train[::50][: 60 - len(named)], *named, *held_out[:4]), key=lambda image: image.id)
    plan = BuildPlan(draws=12, fisher_images=16, fisher_draws=2)
    model = load_model(ModelSpec(str(ASSETS / "emoji-diffusion")))
    return build_index(model, Catalog(artwork.folder, tuple(few)), tmp_path_factory.mktemp("small") / "index", plan)


@pytest.fixture(scope="session")
def patches_index(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a folder of colour patches, for an untrained model: nothing in it is about emoji."""
    pictures = write_patches(tmp_path_factory.mktemp("patches"), 6)
    plan = BuildPlan(draws=2, fisher_images=2, fisher_draws=1)
    folder = tmp_path_factory.mktemp("indexed") / "patches-index"
    return build_index(load_model(ModelSpec(str(tiny_checkpoint))), training_images(pictures), folder, plan).folder


@pytest.fixture(scope="session")
def sharded_pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Ten colour patches, of which three are held out."""
    source = training_images(write_patches(tmp_path_factory.mktemp("patches"), 10))
    images = tuple(replace(image, split="held_out") if n % 3 == 2 else image for n, image in enumerate(source.images))
    return replace(source, images=images)


@pytest.fixture(scope="session")
def sharded(tiny_checkpoint: Path, sharded_pictures: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """An untrained model from a checkpoint, and its index of these patches in three shards."""
    plan = BuildPlan(draws=3, fisher_images=2, fisher_draws=1, shard_size=4)
    model = load_model(ModelSpec(str(tiny_checkpoint)))
    return Attributor(model, build_index(model, sharded_pictures, tmp_path_factory.mktemp("sharded") / "index", plan))


@dataclass
class Counted:
    latents: int = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """How many latents a model has been asked about."""
    counted, measure = Counted(), StableDiffusion.loss_and_size

    def counting(model: StableDiffusion, batch: LatentBatch, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
        counted.latents += draws.u.numel()
        return measure(model, batch, draws)

    monkeypatch.setattr(StableDiffusion, "loss_and_size", counting)
    return counted


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session")
def app_url(small_index: Index, results_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an app on the small index, started once."""
    from chromium import running_app

    log = tmp_path_factory.mktemp("app") / "log.txt"
    with running_app(log, index=str(small_index.folder), results=str(results_folder)) as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    from chromium import CHROMIUM_FLAGS

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("The browser tests need Chromium; install it (apt-get install chromium) and try again.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: object, app_url: str) -> Iterator[object]:
    from chromium import DESKTOP, opened

    with opened(browser, app_url, viewport=DESKTOP) as page:
        yield page
