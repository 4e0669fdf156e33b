"""The shards of an index: latents, conditioning and base losses of some examples, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.atomic import writing
from ..types import LatentBatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Shard:
    batch: LatentBatch
    base_losses: Tensor  # [n d]
    base_sizes: Tensor  # [n d], mean squares of what the model predicts

    def part(self, example_ids: frozenset[str]) -> Shard:
        """The rows of these examples, in this shard's order."""
        rows = [i for i, example_id in enumerate(self.batch.example_ids) if example_id in example_ids]
        return Shard(self.batch.at(rows), self.base_losses[rows], self.base_sizes[rows])


def shard_name(number: int) -> str:
    return f"shards/{number:05}.safetensors"


def load_shard(content: bytes, example_ids: tuple[str, ...]) -> Shard:
    from safetensors.torch import load

    tensors = load(content)
    return Shard(LatentBatch.of(example_ids, tensors), tensors["base_losses"], tensors["base_sizes"])


def joined(batches: Sequence[LatentBatch]) -> LatentBatch:
    """Batches of one shape as one."""
    import torch

    ids = tuple(example_id for batch in batches for example_id in batch.example_ids)
    tensors = {name: torch.cat([batch.tensors[name] for batch in batches]) for name in batches[0].tensors}
    return LatentBatch.of(ids, tensors)


def load_rows(path: Path, example_ids: Sequence[str], rows: Sequence[int]) -> LatentBatch:
    """The examples in these rows of a shard that holds `example_ids`; nothing else of the file is read."""
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys() if not name.startswith("base_")}  # noqa: SIM118
        tensors = {name: torch.cat([tensor[row : row + 1] for row in rows]) for name, tensor in slices.items()}
    return LatentBatch.of(tuple(example_ids[row] for row in rows), tensors)


def latent_shape(path: Path) -> tuple[int, ...]:
    """Channels, height and width of the latents of a shard, from the header of its file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return tuple(file.get_slice("latents").get_shape()[1:])


def load_tensor(path: Path, name: str) -> Tensor:
    """One tensor of a shard, without reading the others."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name).clone()


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    from safetensors.torch import save_file

    tensors = {
        **{name: tensor.contiguous() for name, tensor in shard.batch.tensors.items()},
        "base_losses": shard.base_losses.contiguous(),
        "base_sizes": shard.base_sizes.contiguous(),
    }
    with writing(folder / shard_name(number)) as aside:
        save_file(tensors, aside)
