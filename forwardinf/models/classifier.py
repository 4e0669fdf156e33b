"""Classifiers: any torch network from inputs to logits, as a model whose training examples can be weighed.

There is no noise schedule. The loss is the cross-entropy of the label, the same at every draw, so one draw is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from ..errors import InvalidRequest, UnsupportedModel
from ..types import Draws, LatentBatch, ModelSpec
from .fingerprint import fingerprint_of_module
from .weights import TunableWeights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class LabelledExample:
    """What a classifier is trained on."""

    id: str
    values: Tensor  # [c h w], as the network sees them
    label: int | None  # number of its class


class Classifier:
    """A network `[b c h w] → [b classes]` in evaluation mode, so that taking a loss moves no running average."""

    def __init__(self, network: Module, name: str = "classifier", tunable: str = "all", device: str = "cpu") -> None:
        """Puts the network on `device`; `tunable` is a key of weights.PATTERNS or a regular expression."""
        self.spec = ModelSpec(name, device=device, tunable=tunable)
        self.network = network.to(device).eval()
        self._tunable = TunableWeights(self.network, tunable)
        self.fingerprint = fingerprint_of_module(self.network)

    def encode(self, examples: Sequence[LabelledExample]) -> LatentBatch:
        """Examples as a batch: `latents [b c h w]`, and in `conditioning [b]` their labels.

        Raises InvalidRequest for an example without a label, and for one whose label is not a class of the network.
        """
        bare = [example.id for example in examples if example.label is None]
        if bare:
            raise InvalidRequest(f"“{bare[0]}” has no label, so it has no loss ({len(bare)} of {len(examples)}).")
        batch = LatentBatch(
            tuple(example.id for example in examples),
            torch.stack([example.values for example in examples]).float(),
            torch.tensor([example.label for example in examples]),
        )
        classes = self.logits(batch.rows(0, 1)).shape[1]
        for example in examples:
            if example.label is not None and not 0 <= example.label < classes:
                raise InvalidRequest(f"“{example.id}” has the label {example.label}; this network knows {classes}.")
        return batch

    def tunable_parameters(self) -> dict[str, Tensor]:
        return self._tunable.by_name

    def with_deltas(self, deltas: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        return self._tunable.moved(deltas)

    def loss(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Cross-entropy of each label, `[b d]`, the same at each draw.

        Raises UnsupportedModel where a logit is not finite.
        """
        return self._loss_of(self._forward(batch), batch, draws)

    def loss_and_size(self, batch: LatentBatch, draws: Draws) -> tuple[Tensor, Tensor]:
        """The cross-entropy, and the mean square of the logits about their mean, `[b d]` each.

        A network that knows an example by heart has no loss left on it to move, but logits that move.
        """
        logits = self._forward(batch)
        size = (logits - logits.mean(dim=1, keepdim=True)).square().mean(dim=1)
        return self._loss_of(logits, batch, draws), size[:, None].expand(-1, draws.u.shape[1])

    def _loss_of(self, logits: Tensor, batch: LatentBatch, draws: Draws) -> Tensor:
        if not bool(logits.isfinite().all()):
            raise UnsupportedModel(
                f"“{self.spec.checkpoint}” gives logits that are not finite, so nothing can be said of its examples. "
                "Check its weights, and that its inputs are scaled as in training."
            )
        labels = batch.conditioning.to(logits.device)
        return cross_entropy(logits, labels, reduction="none")[:, None].expand(-1, draws.u.shape[1])

    def prediction(self, batch: LatentBatch, draws: Draws) -> Tensor:
        """Logits, the same at each draw, `[b d classes]`."""
        return self._forward(batch)[:, None].expand(-1, draws.u.shape[1], -1)

    @torch.inference_mode()
    def logits(self, batch: LatentBatch) -> Tensor:
        """`[b classes]` in float32 on the CPU."""
        return self._forward(batch).cpu()

    def _forward(self, batch: LatentBatch) -> Tensor:
        result: Tensor = self.network(batch.latents.to(self.spec.device).float())
        return result.float()
