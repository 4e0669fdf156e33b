"""Embeddings of pictures, and the neighbours that they make."""

from __future__ import annotations

import json
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
from typer.testing import CliRunner

from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import app
from forwardinf.embedders.registry import load_embedder
from forwardinf.errors import DamagedAsset, IndexMismatch, UnsupportedModel
from forwardinf.examples.metadata import training_images
from forwardinf.files.manifest import Manifest
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.info import read_info
from forwardinf.index.neighbours import Neighbours, write_neighbours
from forwardinf.models.sd import StableDiffusion

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


def image_folder(folder: Path) -> Path:
    lines = []
    for i, picture in enumerate(pictures()):
        picture.save(folder / f"{i}.png")
        lines.append(f'{{"file_name": "{i}.png", "text": "patch {i}"}}')
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


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


def test_a_pretrained_embedder_is_named_by_weights_configuration_and_preparation(
    tiny_model: StableDiffusion, tmp_path: Path
):
    def fingerprint(name: str, file: str = "", **config: object) -> str:
        folder = clip(tmp_path / name)
        if file:
            path = Path(folder) / file
            path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return load_embedder(folder, tiny_model).fingerprint

    before = fingerprint("before")
    assert fingerprint("again") == before
    assert load_embedder(clip(tmp_path / "weights", seed=1), tiny_model).fingerprint != before
    assert fingerprint("mean", "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3]) != before
    assert fingerprint("size", "preprocessor_config.json", size={"shortest_edge": 20}) != before
    vision = json.loads((tmp_path / "before" / "config.json").read_text())["vision_config"]
    assert fingerprint("heads", "config.json", vision_config={**vision, "num_attention_heads": 1}) != before
    assert fingerprint("start", "config.json", initializer_factor=0.5) == before


def test_an_embedder_that_cannot_be_had_is_named_with_what_to_try(tiny_model: StableDiffusion, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name, shown in [("clap", "clap"), ("no/such-model", "no/such-model"), (str(tmp_path / "empty"), "“empty”")]:
        with pytest.raises(UnsupportedModel, match="“unet” or “vae”") as refused:
            load_embedder(name, tiny_model)
        assert shown in str(refused.value)
        assert str(tmp_path) not in str(refused.value)


def recorded(folder: Path) -> Manifest:
    return Manifest(folder, {}).with_files("neighbours.faiss")


def test_neighbours_are_in_index_order_and_best_first(tmp_path: Path):
    embeddings = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    ids = list("abcdef")
    write_neighbours(tmp_path, embeddings)
    neighbours = Neighbours.read(recorded(tmp_path), ids)
    similarities = neighbours.similarities(embeddings[2])
    torch.testing.assert_close(similarities, embeddings @ embeddings[2])
    best_first = [ids[i] for i in similarities.argsort(descending=True)]
    assert best_first[0] == "c"
    assert neighbours.nearest(embeddings[2], torch.ones(6, dtype=torch.bool), 6) == best_first
    for rank in range(1, 6):
        rest = torch.tensor([example_id in best_first[rank:] for example_id in ids])
        assert neighbours.nearest(embeddings[2], rest) == best_first[rank : rank + 1]
        assert neighbours.nearest(embeddings[2], rest, 9) == best_first[rank:]
    assert [path.name for path in tmp_path.iterdir()] == ["neighbours.faiss"]


def test_neighbours_that_are_damaged_or_of_other_images_are_refused(tmp_path: Path):
    write_neighbours(tmp_path, torch.eye(4))
    with pytest.raises(DamagedAsset, match="4 embeddings, but the index has 3"):
        Neighbours.read(recorded(tmp_path), "abc")
    path = tmp_path / "neighbours.faiss"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DamagedAsset, match=r"neighbours\.faiss” cannot be read"):
        Neighbours.read(recorded(tmp_path), "abcd")


def test_an_index_is_asked_with_the_embedder_it_was_made_with(tiny_model: StableDiffusion, tmp_path: Path):
    folder, named = image_folder(tmp_path), clip(tmp_path / "clip")
    plan = BuildPlan(draws=2, fisher_images=2, fisher_draws=1, embedder=named)
    index = build_index(tiny_model, training_images(folder), tmp_path / "index", plan)
    assert read_info(index.folder).embedder == "clip"
    asked = Attributor(tiny_model, index, load_embedder(named, tiny_model))
    for i, picture in enumerate(pictures()):
        similarities = asked.similarities(picture)
        assert similarities[i] == pytest.approx(1, abs=1e-5)
        assert int(similarities.argmax()) == i
    other = Attributor(tiny_model, index, load_embedder(clip(tmp_path / "other", seed=1), tiny_model))
    with pytest.raises(IndexMismatch, match=r"embedded with clip .* not with this other"):
        other.similarities(pictures()[0])
    with pytest.raises(UnsupportedModel, match="embedded with “clip”, which was not found"):
        Attributor(tiny_model, index).similarities(pictures()[0])


def test_an_index_of_another_embedder_is_built_and_asked_on_the_command_line(tiny_checkpoint: Path, tmp_path: Path):
    folder, named, index = image_folder(tmp_path), clip(tmp_path / "clip"), tmp_path / "index"
    *lines, last = (folder / "metadata.jsonl").read_text().splitlines()
    held_out = json.dumps({**json.loads(last), "split": "held_out"})
    (folder / "metadata.jsonl").write_text("\n".join([*lines, held_out]))
    picture = folder / json.loads(last)["file_name"]
    with_it = ["--model", str(tiny_checkpoint), "--embedder", named]
    build = ["index", "build", str(folder), "--out", str(index), "--draws", "2", "--tunable", "attention", *with_it]
    done = CliRunner().invoke(app, build)
    assert "1 null pictures" in done.output  # without a prompt too, for which the embedder is needed
    asked = ["attribute", str(picture), "--index", str(index), "--json", *with_it]
    assert json.loads(CliRunner().invoke(app, asked).output)["query"]["fallback_caption"]
    refused = CliRunner().invoke(app, asked[:-2])
    assert "--embedder" in str(refused.exception)
