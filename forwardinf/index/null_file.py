"""The null of an index on disk: how its images change under pictures that the model never saw.

reference.json    schema, settings of the method, weights moved, ids of the null pictures, and the highest score under
                  each without a prompt
reference.npz     the change of every indexed image under each of them at each draw, and behind these its likeness
                  weight, [queries examples draws+1] in float32, compressed; 0 where an image is the picture itself

Of a method that holds sizes alone against a null, the change of size [queries examples] in place of these, and the
highest score under each also with its caption.

While it is measured, the changes under each picture so far lie in `reference.partial`, with the finished tasks of the
picture that is being swept.
"""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from ..errors import DamagedAsset
from ..files.atomic import write_json, writing
from ..files.manifest import Manifest
from ..types import size_draws_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SCHEMA = 3  # in 2 a picture that was asked was swept itself as well, in 1 there was one score for all draws
SIZES_SCHEMA = 4  # of a null of sizes alone
SETTINGS, SCORES, MAKING = "reference.json", "reference.npz", "reference.partial"
FILES = "reference.*"


@dataclass(frozen=True)
class NullChanges:
    """How the indexed images, in the index's order, change under pictures that the model never saw."""

    settings: dict[str, Any]  # of the method, and which weights it moved: what makes scores comparable
    queries: tuple[str, ...]
    found: np.ndarray  # [queries examples draws+1]
    unprompted: Tensor | None = None  # [m], the highest score under each without a prompt, where that was measured

    @cached_property
    def per_draw(self) -> Tensor:
        """Changes `[m n d]`, before their weights."""
        import torch

        return torch.from_numpy(self.found[..., :-1])

    @property
    def size_draws(self) -> int:
        """How many of the draws, the last, measure sizes."""
        return size_draws_of(self.settings["method"], self.per_draw.shape[2])

    @cached_property
    def likeness_weights(self) -> Tensor:
        """What likeness multiplies the changes by, `[m n]`."""
        import torch

        return torch.from_numpy(self.found[..., -1])


@dataclass(frozen=True)
class NullSizes:
    """How the sizes of the indexed images, in the index's order, change under pictures that the model never saw."""

    settings: dict[str, Any]  # as those of NullChanges
    queries: tuple[str, ...]
    sizes: Tensor  # [m n], changes over the draws that measure sizes, standardised and at least 0
    highest: Tensor | None = None  # [m], the highest score under each, where that was measured
    unprompted: Tensor | None = None  # [m], likewise without a prompt

    @property
    def per_draw(self) -> Tensor:
        """Changes `[m n 1]`, as a single draw."""
        return self.sizes[..., None]

    def without(self, query_id: str) -> NullSizes:
        """As measured by the other pictures, to hold this one against."""
        others = [number for number, other in enumerate(self.queries) if other != query_id]
        return NullSizes(self.settings, tuple(self.queries[n] for n in others), self.sizes[others])

    def write(self, folder: Path) -> None:
        """Put it into an index's folder; the settings last, so that it is there or absent."""
        import numpy as np

        with writing(folder / SCORES) as aside:
            np.savez_compressed(aside, sizes=self.sizes.numpy())
        scores = {"highest": self.highest, "unprompted": self.unprompted}
        kept = {name: None if found is None else found.tolist() for name, found in scores.items()}
        fields = {"schema": SIZES_SCHEMA, "settings": self.settings, "queries": list(self.queries), **kept}
        write_json(folder / SETTINGS, fields)


def read_null(manifest: Manifest, examples: int) -> NullChanges | NullSizes | None:
    """The null of an index of so many examples; None where it has none, or one of another schema.

    Raises DamagedAsset where it does not fit the index.
    """
    import numpy as np
    import torch

    if SETTINGS not in manifest.files:
        return None
    folder, content, scores = manifest.folder, manifest.read_bytes(SETTINGS), manifest.read_bytes(SCORES)
    try:
        fields = json.loads(content)
        if fields.get("schema") not in (SCHEMA, SIZES_SCHEMA):
            return None
        settings, queries, arrays = fields["settings"], tuple(fields["queries"]), np.load(io.BytesIO(scores))
        highest, bare = _scores(fields.get("highest")), _scores(fields.get("unprompted"))
        null: NullChanges | NullSizes
        if fields["schema"] == SIZES_SCHEMA:
            found = torch.from_numpy(arrays["sizes"])
            null = NullSizes(settings, queries, found, highest, bare)
        else:
            found = torch.from_numpy(arrays["found"])
            null = NullChanges(settings, queries, arrays["found"], bare)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise DamagedAsset(f"The null of “{folder.name}” cannot be read. {manifest.remedy}") from error
    columns = 2 if fields["schema"] == SIZES_SCHEMA else 3
    whole = found.ndim == columns and found.shape[:2] == (len(queries), examples) and bool(found.isfinite().all())
    kept = (one for one in (highest, bare) if one is not None)
    if not whole or not all(one.shape == (len(queries),) and bool(one.isfinite().all()) for one in kept):
        raise DamagedAsset(f"The null of “{folder.name}” is not whole. {manifest.remedy}")
    return null


def _scores(written: list[float] | None) -> Tensor | None:
    import torch

    return None if written is None else torch.tensor(written, dtype=torch.float32)


@dataclass(frozen=True)
class NullInTheMaking:
    """The changes under each null picture so far."""

    folder: Path  # of the index
    index: str  # fingerprint of what is measured on
    settings: dict[str, Any]
    queries: tuple[str, ...]

    @classmethod
    def begin(cls, folder: Path, index: str, settings: dict[str, Any], queries: tuple[str, ...]) -> NullInTheMaking:
        """Go on with what was begun for the same; what was begun otherwise is thrown away."""
        making = cls(folder, index, settings, queries)
        plan = making._parts / "asked.json"
        if not plan.is_file() or json.loads(plan.read_text(encoding="utf-8")) != making._plan:
            shutil.rmtree(making._parts, ignore_errors=True)
            making._parts.mkdir()
            write_json(plan, making._plan)
        return making

    @property
    def journal(self) -> Path:
        """The folder for finished tasks of the picture that is being swept."""
        return self._parts / "tasks"

    def has(self, query_id: str, prompted: bool) -> bool:
        return self._part(query_id, prompted).is_file()

    def put(self, query_id: str, prompted: bool, found: Tensor) -> None:
        """Keep the changes under a null picture, with or without a prompt; `[examples draws+1]`.

        Its finished tasks are not needed any more.
        """
        import numpy as np

        with writing(self._part(query_id, prompted)) as aside:
            np.save(aside, found.numpy())
        shutil.rmtree(self.journal, ignore_errors=True)

    def found(self, prompted: bool) -> NullChanges:
        """The changes under all null pictures, with or without a prompt."""
        import numpy as np

        parts = [np.load(self._part(query_id, prompted)) for query_id in self.queries]
        return NullChanges(self.settings, self.queries, np.stack(parts))

    def finish(self, unprompted: Tensor | None = None) -> None:
        """Put the whole into place; the settings last, so that it is there or absent."""
        import numpy as np

        with writing(self.folder / SCORES) as aside:
            np.savez_compressed(aside, found=self.found(prompted=True).found)  # half of them are 0
        unprompted_scores = None if unprompted is None else unprompted.tolist()
        write_json(self.folder / SETTINGS, self._asked | {"unprompted": unprompted_scores})
        shutil.rmtree(self._parts)

    @property
    def _plan(self) -> dict[str, Any]:
        return self._asked | {"index": self.index}

    @property
    def _asked(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "settings": self.settings, "queries": list(self.queries)}

    @property
    def _parts(self) -> Path:
        return self.folder / MAKING

    def _part(self, query_id: str, prompted: bool) -> Path:
        return self._parts / f"{self.queries.index(query_id):05}{'' if prompted else '-unprompted'}.npy"
