"""Regularised logistic regression in several classes, trained to convergence, with examples left out and added."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch.nn import Flatten, Linear, Sequential
from torch.nn.functional import cross_entropy, one_hot

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

RIDGE = 0.01  # of the penalty ½ λ |θ|² beside the mean loss
STEPS = 10  # of Newton's method at most
CONVERGED = 1e-10  # norm of the gradient


@dataclass(frozen=True)
class LogisticRegression:
    """θ minimises (1/n) Σ weights_i ℓ(x_i, y_i; θ) + ½ λ |θ|², in float64."""

    inputs: Tensor  # [n f + 1], the last of each 1
    labels: Tensor  # [n]
    weights: Tensor  # [n]
    count: int  # n of the mean, the same with examples left out or added
    theta: Tensor  # [f + 1, classes]

    @classmethod
    def fit(cls, inputs: Tensor, labels: Tensor) -> LogisticRegression:
        """Of `inputs [n f]` and `labels [n]`."""
        whole = _with_one(inputs)
        theta = whole.new_zeros(whole.shape[1], int(labels.max()) + 1)
        return cls(whole, labels, whole.new_ones(len(whole)), len(whole), theta)._converged()

    def without(self, row: int) -> LogisticRegression:
        """Trained to convergence with one example left out."""
        weights = self.weights.clone()
        weights[row] = 0
        return replace(self, weights=weights)._converged()

    def with_example(self, one: Tensor, label: Tensor) -> LogisticRegression:
        """Trained to convergence with `one [f]` added."""
        inputs = torch.cat([self.inputs, _with_one(one[None])])
        weights = torch.cat([self.weights, self.weights.new_ones(1)])
        return replace(self, inputs=inputs, labels=torch.cat([self.labels, label[None]]), weights=weights)._converged()

    @property
    def of_its_examples(self) -> Tensor:
        """Losses `[n]` of what it was trained on."""
        return cross_entropy(self.inputs @ self.theta, self.labels, reduction="none")

    def losses(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """`[m]` of `inputs [m f]`."""
        return cross_entropy(_with_one(inputs) @ self.theta, labels, reduction="none")

    def as_network(self) -> Module:
        """The same as a network in float32, from pictures to logits."""
        linear = Linear(*self.theta[:-1].shape)
        with torch.no_grad():
            linear.weight.copy_(self.theta[:-1].T)
            linear.bias.copy_(self.theta[-1])
        return Sequential(Flatten(), linear)

    def _converged(self) -> LogisticRegression:
        now = self
        for _ in range(STEPS):
            if float(now._gradient.norm()) < CONVERGED:
                break
            step = torch.linalg.solve(now._hessian, now._gradient.T.flatten())
            now = replace(now, theta=now.theta - step.view(now.theta.shape[1], -1).T)
        return now

    @cached_property
    def _probabilities(self) -> Tensor:
        return (self.inputs @ self.theta).softmax(dim=1)

    @cached_property
    def _gradient(self) -> Tensor:
        error = self._probabilities - one_hot(self.labels, self.theta.shape[1])
        return (self.inputs * self.weights[:, None]).T @ error / self.count + RIDGE * self.theta

    @cached_property
    def _hessian(self) -> Tensor:
        """`[classes (f+1), classes (f+1)]`: Σ_i w_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ / n + λ I."""
        p, classes = self._probabilities, self.theta.shape[1]
        curved = (torch.diag_embed(p) - p[:, :, None] * p[:, None]) * self.weights[:, None, None]
        blocks = {
            (a, b): (self.inputs * curved[:, a, b, None]).T @ self.inputs for a in range(classes) for b in range(a + 1)
        }
        rows = [torch.cat([blocks[max(a, b), min(a, b)] for b in range(classes)], dim=1) for a in range(classes)]
        whole = torch.cat(rows) / self.count
        return whole + RIDGE * torch.eye(len(whole), dtype=whole.dtype)


def _with_one(inputs: Tensor) -> Tensor:
    """`[n f]` in float64 with a column of 1, for the bias."""
    return torch.cat([inputs.double(), inputs.new_ones(len(inputs), 1).double()], dim=1)
