"""Turn a trained pipeline into the shipped folder: half-precision weights, contact sheet, model card, manifest.

forwardinf model release
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import Template

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from ..errors import InvalidRequest
from ..examples.catalog import Catalog
from ..files import manifest
from ..files.atomic import writing_folder
from ..models.generation import GenerationRequest
from ..models.sd import StableDiffusion, load
from ..types import ModelSpec
from .figures import Figures, as_table, measure
from .loop import images_seen
from .pictures import at_model_size, tiled

TRAINERS = ("vae", "decoder", "diffusion")
CARD = Path(__file__).with_name("model_card.md")
DESCRIBING = (manifest.NAME, "README.md", "figures.json", "*.png", "loss_*.jsonl")  # of what ships, beside the pipeline
SHEET_COLUMNS, SHEET_SUBJECTS = 8, 16
SHEET_SEED = 7


def release(work: Path, artwork: Path, out: Path) -> None:
    """Replace `out` by the pipeline of `work`, with its figures; `out` is untouched until everything has succeeded."""
    with writing_folder(out, replace=True) as aside:
        _describe(work, artwork, aside)
        manifest.write_manifest(aside)


def _describe(work: Path, artwork: Path, out: Path) -> None:
    """Fill `out` with the pipeline of `work`, contact sheets, loss logs, figures and model card."""
    trained = StableDiffusionPipeline.from_pretrained(work / "pipeline", safety_checker=None, dtype=torch.float16)
    trained.save_pretrained(out, safe_serialization=True)
    forget_origin(out)
    spec = ModelSpec(str(out), fit="pad")
    catalog = Catalog.load(artwork)
    model = load(spec)
    contact_sheet(model, sheet_prompts(catalog)).save(out / "contact_sheet.png", optimize=True)
    repeated_sheet(model, catalog.of_split("train")).save(out / "repeated_images.png", optimize=True)
    for trainer in TRAINERS:
        if (log := work / trainer / "loss.jsonl").exists():
            shutil.copy(log, out / log_name(trainer))
    figures = measure(spec, artwork)
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(model_card(figures, catalog, out), encoding="utf-8")


def forget_origin(folder: Path) -> None:
    """Remove the paths of the machine it was trained on from every configuration."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def log_name(trainer: str) -> str:
    return f"loss_{trainer}.jsonl"


def unrelease(shipped: Path, work: Path) -> None:
    """Lay a shipped model out as a training folder, so that its training continues on another machine.

    Raises InvalidRequest where `work` holds a training already.
    """
    if (work / "pipeline").exists():
        raise InvalidRequest(f"“{work}” already holds a training; continue it, or name another folder.")
    manifest.verify_manifest(shipped)
    # Only the pipeline: manifest, card and figures do not describe the model after further training.
    shutil.copytree(shipped, work / "pipeline", ignore=shutil.ignore_patterns(*DESCRIBING))
    for log in shipped.glob(log_name("*")):
        folder = work / log.stem.removeprefix("loss_")
        folder.mkdir(parents=True)
        shutil.copy(log, folder / "loss.jsonl")


def sheet_prompts(catalog: Catalog) -> list[str]:
    """64 training captions, of 16 evenly spread subjects that all four collections have in `train`."""
    captions: dict[str, list[str]] = {}
    for image in catalog.of_split("train").images:
        captions.setdefault(image.subject, []).append(image.caption)
    shared = sorted(subject for subject, of_subject in captions.items() if len(of_subject) == 4)
    chosen = shared[:: len(shared) // SHEET_SUBJECTS][:SHEET_SUBJECTS]
    return [caption for subject in chosen for caption in sorted(captions[subject])]


def contact_sheet(model: StableDiffusion, prompts: list[str]) -> Image.Image:
    """One picture per prompt, all from the same seed, two subjects to a row."""
    return tiled([model.generate(GenerationRequest(prompt, seed=SHEET_SEED)) for prompt in prompts], SHEET_COLUMNS)


def repeated_sheet(model: StableDiffusion, train: Catalog) -> Image.Image:
    """Each repeated training image (odd columns) beside the picture generated from its caption (even columns)."""
    pairs: list[Image.Image] = []
    for image in (image for image in train.images if image.repeats > 1):
        original = at_model_size(train, image)
        pairs += [original, model.generate(GenerationRequest(image.caption, seed=SHEET_SEED))]
    return tiled(pairs, 2 * SHEET_COLUMNS)


def model_card(figures: Figures, catalog: Catalog, folder: Path) -> str:
    """The model card for the Hub: `model_card.md` with the figures filled in."""
    counts = {split: len(catalog.of_split(split).images) for split in ("train", "held_out", "reserve")}
    return Template(CARD.read_text(encoding="utf-8")).substitute(
        figures=as_table(figures),
        trained=", ".join(
            f"{name} {images_seen(folder / log_name(name)):,}"
            for name in TRAINERS
            if (folder / log_name(name)).exists()
        ),
        total=f"{len(catalog.images):,}",
        **{split: f"{count:,}" for split, count in counts.items()},
    )
