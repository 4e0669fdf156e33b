"""A stop is heeded in whatever stage it comes, within a block of a network; nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from typing import Any

import pytest
import torch

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.attribution.build_sketch import build_sketch
from forwardinf.attribution.shortlist import Effort
from forwardinf.errors import StopRequested
from forwardinf.examples.catalog import Catalog
from forwardinf.examples.metadata import training_images
from forwardinf.files.manifest import Manifest
from forwardinf.gradients.per_example import mean_gradient
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.mean_file import MEAN
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.models.generation import GenerationRequest
from forwardinf.models.sd import StableDiffusion
from forwardinf.stopping import check, heeded, heeding, is_heeded
from forwardinf.types import ModelSpec, Query

METHOD = ForwardInf(size_budget=0.01)
SMALL = Effort(first=3, at_once=4, at_most=12, similar=2, worded=2, sample=4)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return training_images(write_patches(tmp_path_factory.mktemp("patches"), 24))


@pytest.fixture(scope="module")
def attributor(model: StableDiffusion, pictures: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    plan = BuildPlan(draws=2, fisher_images=4, fisher_draws=2, shard_size=8)
    return Attributor(
        model, build_sketch(model, build_index(model, pictures, tmp_path_factory.mktemp("i") / "x", plan))
    )


@pytest.fixture(scope="module")
def query(attributor: Attributor, pictures: Catalog) -> Query:
    return attributor.query(pictures.picture(pictures.images[0]), "patch 0")


class After:
    """A stop that is asked for when it is looked for the `count`-th time; stays asked for, as a pressed button does."""

    def __init__(self, count: float = float("inf")) -> None:
        self.count, self.looked = count, 0

    def __call__(self) -> bool:
        self.looked += 1
        return self.looked >= self.count


def looked_for(work: Callable[[], object]) -> int:
    """How often a stop is looked for while `work` is done."""
    never = After()
    with heeding(never):
        work()
    return never.looked


def assert_left_at_once(model: StableDiffusion, work: Callable[[], object], places: int = 6) -> None:
    """A stop at any of these places of `work`, which are spread over it, ends it there; the weights are as before."""
    before = {name: weights.clone() for name, weights in model.unet.state_dict().items()}
    work()  # reads what is read but once
    times = looked_for(work)
    assert times > places
    for at in sorted({1 + round(share * (times - 1) / places) for share in range(places + 1)}):
        stop = After(at)
        with heeding(stop), pytest.raises(StopRequested):
            work()
        assert stop.looked == at  # nothing looked again, so nothing went on
        assert all(torch.equal(weights, before[name]) for name, weights in model.unet.state_dict().items())


def test_the_gradient_steps_stop_between_evaluations_and_within_one(attributor: Attributor, query: Query, model):
    assert_left_at_once(model, lambda: attributor.prepare(query, METHOD), places=10)


@pytest.mark.parametrize("name", ["mucs", "trak"])
def test_other_methods_stop_while_they_prepare(attributor: Attributor, query: Query, model, name: str):
    from forwardinf.methods.registry import load_method

    method = load_method(name, max_steps=2) if name == "mucs" else load_method(name)
    assert_left_at_once(model, lambda: attributor.prepare(query, method))


def test_a_backward_stops_on_its_way(model: StableDiffusion, attributor: Attributor, query: Query, monkeypatch):
    """Not only the forward before it: the tensors that it takes are where a stop is looked for."""
    draws = attributor.index.info.plan.draws([query.id], query.latents.shape[1:])
    backward, began = torch.autograd.grad, []
    never = After()
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *given, **named: began.append(never.looked) or backward(*given, **named)
    )
    with heeding(never):
        value, gradients = mean_gradient(model, model.loss, query.batch(), draws)
    assert never.looked - began[0] > 50
    last = After(never.looked)
    with heeding(last), pytest.raises(StopRequested):
        mean_gradient(model, model.loss, query.batch(), draws)
    plain_value, plain = mean_gradient(model, model.loss, query.batch(), draws)
    assert plain_value == value
    assert all(torch.equal(gradient, plain[name]) for name, gradient in gradients.items())


def test_a_picture_is_left_while_it_is_encoded_embedded_or_generated(model, attributor: Attributor, pictures: Catalog):
    picture = pictures.picture(pictures.images[0])
    assert_left_at_once(model, lambda: attributor.query(picture, ""))
    assert_left_at_once(model, lambda: model.generate(GenerationRequest("patch 1", steps=2)))


@pytest.mark.parametrize("effort", [None, SMALL], ids=["all", "staged"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_sweep_stops_within_a_batch(model, attributor: Attributor, query: Query, effort: Effort | None, threads: int):
    """Threads may look a last time each after one of them has seen the stop; none begins anything."""
    before = {name: weights.clone() for name, weights in model.unet.state_dict().items()}
    had = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        never = After()
        whole = list(heeded(attributor.follow(query, METHOD, effort), never))[-1].scores()
        prepared = looked_for(lambda: attributor.prepare(query, METHOD))
        for at in range(prepared + 3, never.looked, (never.looked - prepared) // 2):
            stop = After(at)
            with pytest.raises(StopRequested):
                list(heeded(attributor.follow(query, METHOD, effort), stop))
            assert at <= stop.looked <= at + threads + 1
            assert all(torch.equal(weights, before[name]) for name, weights in model.unet.state_dict().items())
        again = list(attributor.follow(query, METHOD, effort))[-1].scores()
    finally:
        torch.set_num_threads(had)
    assert torch.equal(again.scores, whole.scores)


def test_an_index_is_not_read_to_its_end(attributor: Attributor, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    index = replace(attributor.index)  # which has read nothing yet
    bare = replace(index, manifest=index.manifest.without_files(MEAN))
    for name in ("read_bytes", "verified"):
        wrapped = getattr(Manifest, name)
        noting = lambda manifest, name, wrapped=wrapped: read.append(name) or wrapped(manifest, name)  # noqa: E731
        monkeypatch.setattr(Manifest, name, noting)
    for reading in (lambda: bare.mean_latents, lambda: index.base_losses, lambda: index.examples(index.visited)):
        read.clear()
        with heeding(After(2)), pytest.raises(StopRequested):
            reading()
        assert {name for name in read if name.startswith("shards/")} == {"shards/00000.safetensors"}


def test_every_block_of_every_network_looks(model: StableDiffusion):
    networks = (model.unet, model.vae, model.pipeline.text_encoder)
    blocks = [block for network in networks for block in network.modules() if list(block.children())]
    assert len(blocks) > 30
    assert all(block._forward_pre_hooks for block in blocks)


def test_nothing_is_heeded_outside_and_in_other_threads():
    assert not is_heeded()
    check()
    pressed = threading.Event()
    pressed.set()
    found: list[Any] = []
    with heeding(pressed.is_set):
        for context in (None, copy_context()):
            run = is_heeded if context is None else lambda context=context: context.run(is_heeded)
            thread = threading.Thread(target=lambda run=run: found.append(run()))
            thread.start()
            thread.join()
        with pytest.raises(StopRequested):
            check()
    assert found == [False, True]
    check()


def test_steps_are_taken_in_any_context_and_closed_when_a_stop_comes():
    pressed, closed = threading.Event(), []

    def steps() -> Any:
        try:
            for number in range(3):
                check()
                yield number
        finally:
            closed.append(True)

    taken = heeded(steps(), pressed.is_set)
    assert [copy_context().run(next, taken) for _ in range(2)] == [0, 1]
    assert not is_heeded()
    pressed.set()
    with pytest.raises(StopRequested):
        copy_context().run(next, taken)
    assert closed == [True]
    with closing(heeded(steps(), lambda: False)) as others:
        next(others)
    assert closed == [True, True]
