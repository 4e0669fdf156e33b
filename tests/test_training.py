"""The trainers on tiny models: they resume, decay, average, and leave a pipeline that loads."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from conftest import ASSETS
from forwardinf.errors import InvalidRequest
from forwardinf.examples.catalog import Catalog, TrainingImage
from forwardinf.files import manifest
from forwardinf.models.registry import load_model
from forwardinf.training import figures
from forwardinf.training import vae as vae_training
from forwardinf.training.artwork import assign_splits, normal_code
from forwardinf.training.loop import Plan, Trainer, averaged, images_seen, schedule
from forwardinf.training.pictures import load_pictures, tiled, to_model_range
from forwardinf.training.release import model_card, unrelease
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import ModelSpec


def image_named(code: str, collection: str = "noto", group: str = "food-drink") -> TrainingImage:
    blank = dict.fromkeys(TrainingImage.__dataclass_fields__, "")
    fields = {"id": f"{collection}-{code}", "collection": collection, "group": group, "width": 64, "height": 64}
    return TrainingImage(**{**blank, **fields, "repeats": 1, "split": "reserve"})


def squares(folder: Path, total: int, seen_now: list[int] | None = None) -> nn.Linear:
    """Fit a line by the shared trainer, 4 examples a step."""
    torch.manual_seed(0)
    line = nn.Linear(1, 1)
    trainer = Trainer({"line": line}, Plan(total, 4, 0.05, warmup=8, average_over=8), folder)

    def loss_of(seen: int, n: int) -> torch.Tensor:
        if seen_now is not None:
            seen_now.append(seen)
        x = torch.randn(n, 1, generator=torch.Generator().manual_seed(seen))
        return (line(x) - 2 * x).square().mean()

    trainer.run(loss_of)
    return line


def test_an_interrupted_run_continues_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("forwardinf.training.loop.schedule", lambda seen, total: 1.0)
    straight = squares(tmp_path / "straight", 80)
    squares(tmp_path / "halved", 40)
    seen: list[int] = []
    resumed = squares(tmp_path / "halved", 80, seen)
    assert seen == list(range(40, 80, 4))
    torch.testing.assert_close(resumed.weight, straight.weight, rtol=0, atol=0)


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path):
    assert abs(squares(tmp_path, 800).weight.item() - 2) < 0.1
    assert json.loads((tmp_path / "loss.jsonl").read_text().splitlines()[-1])["seen"] == 800


def test_the_average_is_carried_inside_only(tmp_path: Path):
    line = squares(tmp_path, 40)
    trainer = Trainer({"line": line}, Plan(40, 4, 0.05, 8, 8), tmp_path)
    live, mean = line.weight.detach().clone(), trainer.average[0].clone()
    with averaged(trainer):
        assert torch.equal(line.weight, mean)
    assert torch.equal(line.weight, live)
    assert not torch.equal(live, mean)


def test_the_learning_rate_stays_and_decays_and_rises_again_with_a_larger_total():
    assert [schedule(seen, 1000) for seen in (0, 650, 825, 1000)] == pytest.approx([1, 1, 0.5, 0])
    assert schedule(1000, 4000) == 1


def test_released_weights_without_optimizer_state_count_on_and_warm_up_again(tmp_path: Path):
    (tmp_path / "loss.jsonl").write_text('{"seen": 400, "loss": 1.0}\n')
    seen: list[int] = []
    squares(tmp_path, 408, seen)
    assert seen == [400, 404]
    assert json.loads((tmp_path / "loss.jsonl").read_text().splitlines()[-1])["seen"] == 408


def test_standardised_latents_are_unit_normal_and_decode_to_the_same_picture():
    torch.manual_seed(0)
    vae = vae_training.new_vae().eval()
    pictures = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8)
    x = to_model_range(pictures)
    with torch.no_grad():
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        spread = vae.encode(x).latent_dist.std / vae.encode(x).latent_dist.mean.std(dim=(0, 2, 3))[:, None, None]
        vae_training.standardise_latents(vae, pictures)
        latents = vae.encode(x).latent_dist
        torch.testing.assert_close(latents.mean.mean(dim=(0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.mean.std(dim=(0, 2, 3)), torch.ones(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(latents.std, spread, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(vae.decode(latents.mean).sample, before, atol=1e-4, rtol=1e-3)


def test_augmentation_moves_pictures_over_white():
    black = torch.zeros(64, 3, 64, 64, dtype=torch.uint8)
    moved = vae_training.augmented(black, torch.Generator().manual_seed(0))
    assert moved.shape == black.shape
    assert set(moved.unique().tolist()) == {-1.0, 1.0}
    assert len({tuple(m[0, :, 32].tolist()) for m in moved}) > 1


def test_splits_are_stratified_fixed_by_the_seed_and_leave_other_groups_in_reserve():
    images = [image_named(f"{i:04x}", c) for c in ("noto", "fluent") for i in range(100)]
    images += [image_named(f"f{i}", "noto", "flags") for i in range(10)]
    split = assign_splits(images, seed=0)
    assert Counter((s.collection, s.split) for s in split) == {
        ("noto", "train"): 95, ("noto", "held_out"): 5, ("noto", "reserve"): 10,
        ("fluent", "train"): 95, ("fluent", "held_out"): 5,
    }  # fmt: skip
    assert Counter(s.collection for s in split if s.repeats == 25) == {"noto": 20, "fluent": 20}
    assert all(s.split == "train" for s in split if s.repeats > 1)
    assert assign_splits(images, seed=0) == split != assign_splits(images, seed=1)


def test_variation_selectors_do_not_make_another_emoji():
    assert normal_code("1F3F3-FE0F-200D-1F308") == "1f3f3-200d-1f308"


def test_the_tokenizer_learns_whole_words_and_encodes_any_script(tmp_path: Path):
    tokenizer = learn_tokenizer(["red apple, OpenMoji style", "red pear, Noto style"] * 5, size=700)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert again.tokenize("Red apple") == ["red</w>", "apple</w>"]
    for text in ("яблоко", "苹果", "🍎", "naïve"):
        assert again.unk_token_id not in again(text, add_special_tokens=False).input_ids
        assert again.decode(again(text, add_special_tokens=False).input_ids).replace(" ", "") == text


def test_pictures_are_tiled_row_by_row():
    tiles = [Image.new("RGB", (2, 2), colour) for colour in ("red", "green", "blue")]
    sheet = tiled(tiles, columns=2)
    assert sheet.size == (4, 4)
    assert sheet.getpixel((0, 2)) == (0, 0, 255)
    assert sheet.getpixel((3, 3)) == (255, 255, 255)


def test_training_pictures_come_at_the_models_size():
    held_out = Catalog.load(ASSETS / "emoji").of_split("held_out")
    pictures = load_pictures(held_out)
    assert pictures.shape == (len(held_out.images), 3, 64, 64)
    assert pictures.dtype == torch.uint8


def test_a_shipped_model_is_laid_out_for_training_without_what_describes_it(tmp_path: Path, tiny_checkpoint: Path):
    shipped = tmp_path / "shipped"
    shutil.copytree(tiny_checkpoint, shipped)
    (shipped / "README.md").write_text("card")
    (shipped / "loss_vae.jsonl").write_text('{"seen": 64, "loss": 1}\n')
    manifest.write_manifest(shipped)
    unrelease(shipped, tmp_path / "work")
    load_model(ModelSpec(str(tmp_path / "work/pipeline")))
    assert not (tmp_path / "work/pipeline/README.md").exists()
    assert images_seen(tmp_path / "work/vae/loss.jsonl") == 64
    with pytest.raises(InvalidRequest, match="already holds a training"):
        unrelease(shipped, tmp_path / "work")


def test_the_apps_memory_is_measured_and_within_its_target():
    used = figures.app_peak_memory(ModelSpec(str(ASSETS / "emoji-diffusion")), ASSETS / "emoji") / 2**30
    assert 0.3 < used <= figures.AT_MOST["app_peak_memory_gb"]


def test_the_table_of_figures_says_which_target_is_missed():
    names = ("parameters_unet", "picture_seconds", "nearest_of_prompted_collection")
    table = figures.as_table(dict(zip(names, (1234, 2.5, 0.9), strict=True)))
    assert "| parameters of the UNet | 1,234 |  |" in table
    assert "| one picture, seconds | 2.5 | ≤ 2: **not met** |" in table
    assert "| share whose nearest training image is of the prompted collection | 0.9 | ≥ 0.9: met |" in table


def test_the_shipped_card_is_the_template_with_the_shipped_figures():
    shipped, catalog = ASSETS / "emoji-diffusion", Catalog.load(ASSETS / "emoji")
    measured = json.loads((shipped / "figures.json").read_text(encoding="utf-8"))
    assert (shipped / "README.md").read_text(encoding="utf-8") == model_card(measured, catalog, shipped)
