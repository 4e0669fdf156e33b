"""Which training images look like a picture: embeddings of them all in a FAISS index, exact and in catalog order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DamagedAsset
from ..files.atomic import writing
from ..files.manifest import Manifest

if TYPE_CHECKING:
    from torch import Tensor

FILE_NAME = "neighbours.faiss"


@dataclass(frozen=True)
class Neighbours:
    """The embeddings of an index's images; similarities are cosines, as every embedding has length 1."""

    example_ids: tuple[str, ...]
    flat: Any  # faiss.IndexFlatIP

    @classmethod
    def read(cls, manifest: Manifest, example_ids: Sequence[str]) -> Neighbours:
        """Those of an index; raises DamagedAsset where it does not hold one embedding per example."""
        import faiss

        name, path = f"“{manifest.folder.name}/{FILE_NAME}”", manifest.verified(FILE_NAME)
        try:
            flat = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # mapped, as they are many
        except RuntimeError as error:
            raise DamagedAsset(f"{name} cannot be read. {manifest.remedy}") from error
        if flat.ntotal != len(example_ids):
            raise DamagedAsset(
                f"{name} holds {flat.ntotal} embeddings, but the index has {len(example_ids)} images. {manifest.remedy}"
            )
        return cls(tuple(example_ids), flat)

    def nearest(self, embedding: Tensor, among: Tensor, count: int = 1) -> list[str]:
        """Of the images of a mask `among` `[n]`, the ids of those most similar to an embedding `[f]`, first to last."""
        import faiss
        import numpy as np

        bits = np.packbits(among.numpy(), bitorder="little")
        only = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg, arg-type]
        _, positions = self.flat.search(embedding[None].numpy(), min(count, int(among.sum())), params=only)
        return [self.example_ids[row] for row in positions[0]]

    def similarities(self, embedding: Tensor) -> Tensor:
        """Float32 similarities `[n]` of every image to an embedding `[f]`, in the index's order."""
        import faiss
        import torch

        kept = faiss.rev_swig_ptr(self.flat.get_xb(), self.flat.ntotal * self.flat.d)  # a view: all of them are a lot
        return torch.from_numpy(kept.reshape(self.flat.ntotal, self.flat.d)) @ embedding


def write_neighbours(folder: Path, embeddings: Tensor) -> None:
    """Embeddings `[n f]` as `folder/neighbours.faiss`."""
    import faiss

    flat = faiss.IndexFlatIP(embeddings.shape[1])
    flat.add(embeddings.contiguous().numpy())
    with writing(folder / FILE_NAME) as aside:
        faiss.write_index(flat, str(aside))
