"""Which training images look like a picture: embeddings of them all in a FAISS index, exact and in catalog order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DamagedAsset
from ..files.atomic import writing

if TYPE_CHECKING:
    from torch import Tensor

FILE_NAME = "neighbours.faiss"


@dataclass(frozen=True)
class Neighbours:
    """The embeddings of an index's images; similarities are cosines, as every embedding has length 1."""

    example_ids: tuple[str, ...]
    flat: Any  # faiss.IndexFlatIP

    @classmethod
    def read(cls, folder: Path, example_ids: Sequence[str]) -> Neighbours:
        """Read `folder/neighbours.faiss`; raises DamagedAsset where it does not hold one embedding per example."""
        import faiss

        try:
            flat = faiss.read_index(str(folder / FILE_NAME))
        except RuntimeError as error:
            raise DamagedAsset(f"“{folder.name}/{FILE_NAME}” cannot be read. Build the index again.") from error
        if flat.ntotal != len(example_ids):
            raise DamagedAsset(
                f"“{folder.name}/{FILE_NAME}” holds {flat.ntotal} embeddings, but the index has {len(example_ids)} "
                "images. Build the index again."
            )
        return cls(tuple(example_ids), flat)

    def nearest(self, embedding: Tensor, k: int) -> list[tuple[str, float]]:
        """The `k` images most similar to an embedding `[f]`, best first: (id, similarity)."""
        similarities, positions = self.flat.search(embedding[None].numpy(), min(k, self.flat.ntotal))
        return [(self.example_ids[i], float(s)) for i, s in zip(positions[0], similarities[0], strict=True)]

    def similarities(self, embedding: Tensor) -> Tensor:
        """Float32 similarities `[n]` of every image to an embedding `[f]`, in the index's order."""
        import torch

        return torch.from_numpy(self.flat.reconstruct_n(0, self.flat.ntotal)) @ embedding


def write_neighbours(folder: Path, embeddings: Tensor) -> None:
    """Embeddings `[n f]` as `folder/neighbours.faiss`, written aside and renamed, so that it is whole or absent."""
    import faiss

    flat = faiss.IndexFlatIP(embeddings.shape[1])
    flat.add(embeddings.contiguous().numpy())
    with writing(folder / FILE_NAME) as aside:
        faiss.write_index(flat, str(aside))
