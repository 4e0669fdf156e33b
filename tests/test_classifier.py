"""Classifiers, and attribution over examples in memory, on networks small enough for closed forms."""

from __future__ import annotations

import pytest
import torch
from torch.nn import BatchNorm2d, Flatten, Linear, Sequential

from forwardinf.attribution.in_memory import ONE_DRAW, InMemory, off_its_minimum, query_of
from forwardinf.draws import DrawPlan
from forwardinf.errors import InvalidRequest, UnsupportedModel
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.methods.plain import Plain
from forwardinf.methods.protocol import AttributionMethod
from forwardinf.methods.similarity import Similarity
from forwardinf.methods.tracin import TracIn
from forwardinf.models.classifier import Classifier, LabelledExample
from forwardinf.types import LatentBatch

TWO = DrawPlan(seed=0, count=2, shared=True)


def classifier(seed: int = 0, norm: bool = False) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(Sequential(*([BatchNorm2d(1)] if norm else []), Flatten(), Linear(4, 3)))


def examples(count: int, seed: int = 0, label: int | None = None) -> list[LabelledExample]:
    stream = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 1, 2, 2, generator=stream)
    labels = torch.randint(0, 3, (count,), generator=stream).tolist()
    return [
        LabelledExample(f"{i:03}", x, y if label is None else label)
        for i, (x, y) in enumerate(zip(values, labels, strict=True))
    ]


def gradients(model: Classifier, batch: LatentBatch) -> torch.Tensor:
    """By hand, `[n w]`: (p − y) xᵀ, and (p − y) for the bias."""
    x, p = batch.latents.flatten(1), model.logits(batch).softmax(dim=1)
    error = p - torch.nn.functional.one_hot(batch.conditioning, 3)
    return torch.cat([torch.einsum("nc,nf->ncf", error, x).flatten(1), error], dim=1)


def test_the_score_of_a_small_step_is_the_product_of_the_gradients():
    model = classifier()
    training_set = InMemory.of(model, model.encode(examples(20)))
    asked = model.encode(examples(1, seed=1))
    product = gradients(model, training_set.batch) @ gradients(model, asked)[0]
    for method in (Plain(loss_budget=0.001, score="difference"), TracIn(query_draws=1)):
        scores = training_set.attribute(query_of(asked), method).scores.double()
        assert torch.corrcoef(torch.stack([scores, product.double()]))[0, 1] > 0.9999


def test_weights_and_running_averages_are_as_before():
    model = classifier(norm=True)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    training_set = InMemory.of(model, model.encode(examples(8)))
    training_set.attribute(query_of(training_set.batch, 3), ForwardInf())
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())


@pytest.mark.parametrize(
    "method", [Plain(), ForwardInf(), ForwardInf(curvature="kronecker")], ids=["plain", "fisher", "kronecker"]
)
def test_an_example_that_is_the_query_comes_before_those_of_other_labels(method: AttributionMethod):
    model = classifier()
    training_set = InMemory.of(model, model.encode(examples(30)))
    for row in range(5):
        scores = training_set.attribute(query_of(training_set.batch, row), method)
        best = training_set.batch.conditioning[training_set.ids.index(scores.top(1)[0][0])]
        assert best == training_set.batch.conditioning[row]


def sure(model: Classifier, logit: float) -> LatentBatch:
    """An example whose class the model is made sure of."""
    with torch.no_grad():
        model.network[-1].bias[1] += logit
    return model.encode([LabelledExample("sure", torch.ones(1, 2, 2), 1)])


def test_a_query_without_a_gradient_is_moved_until_it_has_one_and_one_that_has_stays():
    model = classifier()
    training_set = InMemory.of(model, model.encode(examples(6)))
    asked = query_of(training_set.batch)
    assert off_its_minimum(training_set, asked).latents.equal(asked.latents)
    known = query_of(sure(model, 10))
    moved = off_its_minimum(training_set, known)
    assert (moved.id, moved.latents.equal(known.latents)) == (known.id, False)
    assert training_set.attribute(moved, Plain()).scores.isfinite().all()
    with torch.no_grad():
        model.network[-1].weight.zero_()  # as sure of everything
    with pytest.raises(InvalidRequest, match="no gradient leads anywhere"):
        off_its_minimum(training_set, known)


def test_logits_have_a_size_that_moves_where_the_loss_does_not():
    model, draws = classifier(), TWO.draws(["sure"], (1, 2, 2))
    batch = sure(model, 30)
    loss, size = model.loss_and_size(batch, draws)
    assert loss.tolist() == [[0.0, 0.0]]
    logits = model.prediction(batch, draws)[0, 0]
    assert torch.allclose(size[0, 1], logits.var(correction=0))
    (gradient,) = torch.autograd.grad(size.sum(), [model.tunable_parameters()["1.bias"]])
    assert float(gradient.norm()) > 1


def test_examples_that_have_no_loss_are_refused_by_name():
    model = classifier()
    with pytest.raises(InvalidRequest, match="“b” has no label"):
        model.encode([*examples(2), LabelledExample("b", torch.zeros(1, 2, 2), None)])
    with pytest.raises(InvalidRequest, match="label 3; this network knows 3"):
        model.encode(examples(2, label=3))
    with pytest.raises(InvalidRequest, match="same id"):
        InMemory.of(model, model.encode([*examples(2), *examples(1)]))
    training_set = InMemory.of(model, model.encode(examples(3)))
    with pytest.raises(InvalidRequest, match="no picture"):
        training_set.attribute(query_of(training_set.batch), Similarity())


def test_logits_that_are_not_finite_are_refused_in_words():
    model = classifier()
    with torch.no_grad():
        model.network[-1].bias[0] = float("nan")
    batch = LatentBatch(("a",), torch.zeros(1, 1, 2, 2), torch.tensor([0]))
    with pytest.raises(UnsupportedModel, match="not finite"):
        InMemory.of(model, batch)
    model.network[-1].bias.data.zero_()
    infinite = LatentBatch(("a",), torch.full((1, 1, 2, 2), float("inf")), torch.tensor([0]))
    with pytest.raises(UnsupportedModel, match="scaled as in training"):
        model.loss(infinite, ONE_DRAW.draws(["a"], (1, 2, 2)))


def test_every_weight_and_the_structure_are_in_the_fingerprint():
    same, other = classifier(), classifier(seed=1)
    assert classifier().fingerprint == same.fingerprint
    assert len({same.fingerprint, other.fingerprint, classifier(norm=True).fingerprint}) == 3
