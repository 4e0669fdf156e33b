"""What lets an index say, without a forward, which of its images a move of the weights changes most.

sketch.json    how the sketches were made
sketch.faiss   a sketch per example in float16, searched by inner product; see gradients/whitening.py

It is derived from the rest of the index, and no score depends on it: it only says where to look first.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DamagedAsset
from ..files.atomic import write_json, writing
from ..files.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

SCHEMA = 1
INFO, SKETCHES = "sketch.json", "sketch.faiss"
UNREADABLE = "The sketches of “{index}” cannot be read. {remedy}"


@dataclass(frozen=True)
class SketchInfo:
    """How the sketches of an index were made."""

    draws: tuple[int, ...]  # numbers of the index's draws at which sizes were differentiated
    dimensions: int = 2048
    damping: float = 0.1  # share of the mean Fisher added before its root is taken
    seed: int = 0


@dataclass(frozen=True)
class Sketches:
    """The sketches of an index's images, in its order."""

    info: SketchInfo
    kept: Any  # faiss.IndexScalarQuantizer

    def highest(self, sketch: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Rows of the `count` images whose sketches have the highest inner product with one, and these products."""
        import torch

        products, rows = self.kept.search(sketch[None].numpy(), min(count, self.kept.ntotal))
        return torch.from_numpy(rows[0]), torch.from_numpy(products[0])

    def products(self, sketch: Tensor, rows: Tensor) -> Tensor:
        """Inner products of these images' sketches with one `[dimensions]`."""
        import torch

        return torch.from_numpy(self.kept.reconstruct_batch(rows.numpy())) @ sketch


def read_info(manifest: Manifest) -> SketchInfo | None:
    """How the sketches of an index were made; None and raises as `read_sketches`, but reads none of them."""
    if INFO not in manifest.files:
        return None
    content = manifest.read_bytes(INFO)
    try:
        fields = json.loads(content)
        if fields.pop("schema", None) != SCHEMA:
            return None
        return SketchInfo(**{**fields, "draws": tuple(fields["draws"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedAsset(UNREADABLE.format(index=manifest.folder.name, remedy=manifest.remedy)) from error


def read_sketches(manifest: Manifest, examples: int) -> Sketches | None:
    """The sketches of an index of so many examples; None where it has none, or some of another schema.

    Raises DamagedAsset where they are not as they should be.
    """
    import faiss

    info = read_info(manifest)
    if info is None:
        return None
    path = manifest.verified(SKETCHES)
    try:
        kept = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # mapped, as they are many
    except RuntimeError as error:
        raise DamagedAsset(UNREADABLE.format(index=manifest.folder.name, remedy=manifest.remedy)) from error
    if (kept.ntotal, kept.d) != (examples, info.dimensions):
        raise DamagedAsset(f"The sketches of “{manifest.folder.name}” are not whole. {manifest.remedy}")
    return Sketches(info, kept)


def write_sketches(folder: Path, info: SketchInfo, parts: Iterable[Tensor]) -> None:
    """Sketches `[b dimensions]`, a part at a time in the index's order; the file that names them comes last."""
    import faiss

    kept = faiss.IndexScalarQuantizer(info.dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for part in parts:
        kept.add(part.contiguous().numpy())
    with writing(folder / SKETCHES) as aside:
        faiss.write_index(kept, str(aside))
    write_json(folder / INFO, {"schema": SCHEMA, **asdict(info)})
