"""What is the same for every batch, round and query is computed once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.training_set import IndexedImages, batches_of
from forwardinf.draws import DrawPlan, _shared
from forwardinf.examples.metadata import training_images
from forwardinf.files.manifest import Manifest
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.shards import Shard
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.captions import CPU_AT_ONCE, Captions
from forwardinf.models.sd import StableDiffusion
from forwardinf.types import ModelSpec


class Reader(torch.nn.Module):
    """A text encoder of one weight that counts the rows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.batches: list[list[int]] = []

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.batches.append(ids[:, 0].tolist())
        return ids[:, :, None] * self.weight, ids.float().sum(dim=1)


def ids(*first: int) -> torch.Tensor:
    return torch.tensor([[n, n + 1] for n in first])


def test_a_caption_is_encoded_once():
    reader = Reader()
    read = Captions(reader, [reader], "cpu")
    read._at_once = 1
    for asked in (ids(1, 2, 1), ids(2, 3), ids(3)):
        hidden, pooled = read(asked)
        torch.testing.assert_close(hidden, asked[:, :, None].float())
        torch.testing.assert_close(pooled, asked.float().sum(dim=1))
    assert reader.batches == [[1], [2], [3]]


def test_captions_beyond_the_limit_are_encoded_again_and_the_first_ones_kept():
    reader = Reader()
    read = Captions(reader, [reader], "cpu", limit=2 * (2 * 4 + 4))
    read._at_once = 1
    for _ in range(2):
        assert read(ids(1, 2, 3))[1].tolist() == [3, 5, 7]
    assert reader.batches == [[1], [2], [3], [3]]


def test_captions_are_encoded_in_batches_of_one_size():
    reader = Reader()
    read = Captions(reader, [reader], "cpu")
    read._at_once = 4
    assert read(ids(*range(6)))[1].tolist() == [2 * n + 1 for n in range(6)]
    assert reader.batches == [[0, 1, 2, 3], [4, 5, 5, 5]]


def test_captions_are_read_again_by_a_changed_encoder():
    reader = Reader()
    read = Captions(reader, [reader], "cpu")
    before = read(ids(1))[0]
    reader.weight.mul_(2)
    assert torch.equal(read(ids(1))[0], 2 * before)


def test_captions_first_read_in_a_sweep_serve_a_gradient(tiny_model: StableDiffusion):
    with torch.inference_mode():
        (hidden,) = tiny_model._captions(tiny_model.encode_prompt(["red apple"]))
    assert not tiny_model._captions(tiny_model.encode_prompt(["red apple"]))[0].is_inference()
    assert not hidden.requires_grad


def test_shared_noise_is_drawn_once_and_lies_on_the_device():
    _shared.cache_clear()
    plan = DrawPlan(0, 3, shared=True)
    with torch.inference_mode():
        first = plan.draws(["a", "b"], (2, 3, 3))
    second = plan.draws(["c"], (2, 3, 3))
    assert first.noise.data_ptr() == second.noise.data_ptr()
    assert not second.noise.is_inference()
    assert first.noise.stride(0) == 0
    assert plan.draws(["a"], (2, 3, 3), "meta").noise.device.type == "meta"
    assert DrawPlan(0, 3).draws(["a"], (2, 3, 3), "meta").u.device.type == "meta"


def test_curvature_is_read_and_brought_to_the_device_once_for_all_queries(
    patches_index: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    index, read = Index.open(patches_index), list[str]()
    attributor = Attributor.load(index, ModelSpec(str(tiny_checkpoint)))
    content = Manifest.read_bytes
    monkeypatch.setattr(Manifest, "read_bytes", lambda self, name: read.append(name) or content(self, name))
    ids = [image.id for image in index.catalog.images]
    for number in range(2):  # the second on a part of the index, as null pictures are run
        query = attributor.query(index.thumbnails.picture(index.thumbnails.images[number]), f"patch {number}")
        attributor.prepare(query, ForwardInf(size_draws=1))
        attributor = replace(attributor, index=index.part(ids[1:]))
    assert read.count("fisher.safetensors") == 1
    assert {weight.device.type for weight in index.fisher("meta").values()} == {"meta"}
    assert index.fisher("meta") is index.part(ids[:1]).fisher("meta")
    assert IndexedImages(index, None, attributor.similarities, "meta").fisher() is index.fisher("meta")


def test_indexing_and_a_query_encode_each_caption_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))
    encoder, encoded = model.text_encoder.forward, list[int]()

    def counted(tokens: torch.Tensor, *rest: object, **named: object) -> object:
        encoded.append(len(tokens))
        return encoder(tokens, *rest, **named)

    monkeypatch.setattr(model.text_encoder, "forward", counted)
    patches = training_images(write_patches(tmp_path, 5))
    index = build_index(model, patches, tmp_path / "index", BuildPlan(draws=2, fisher_images=3, fisher_draws=2))
    attributor = Attributor(model, index)
    attributor.attribute(patches.picture(patches.images[0]), "patch 0")
    attributor.attribute(patches.picture(patches.images[1]), "something else")
    assert encoded == [CPU_AT_ONCE] * 3  # the five captions, no prompt, and a query's own


def test_the_next_shard_is_read_while_one_is_measured_on_cuda(patches_index: Path, monkeypatch: pytest.MonkeyPatch):
    index, asked = Index.open(patches_index), threading.Event()
    (shard,) = index.shards()

    def shards(_: Index) -> Iterator[Shard]:
        yield shard
        asked.set()
        yield replace(shard, base_losses=shard.base_losses + 1)

    monkeypatch.setattr(Index, "shards", shards)
    ahead = batches_of(index, device="cuda")
    assert next(ahead).example_ids == shard.batch.example_ids
    assert asked.wait(timeout=60)  # though nobody has asked for the second one
    assert len(list(ahead)) == 1
    asked.clear()
    next(batches_of(index))
    assert not asked.is_set()
