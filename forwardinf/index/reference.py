"""What pictures that the model never saw score, kept in an index: what an answer is compared with.

reference.json    the method's settings, the weights moved, and the ids of the pictures asked
reference.npy     the score of every indexed image under each of them, [queries examples] in float32
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DamagedAsset
from ..row_cache import RowCache

if TYPE_CHECKING:
    import numpy as np

SETTINGS, SCORES = "reference.json", "reference.npy"


@dataclass(frozen=True)
class Reference:
    """Scores of the indexed images, in the index's order, for pictures that the model never saw."""

    settings: dict[str, Any]  # of the method, and which weights it moved: what makes scores comparable
    queries: tuple[str, ...]
    scores: np.ndarray  # [queries examples]


def read_reference(folder: Path) -> Reference | None:
    """The reference of an index; None where it has none. Raises DamagedAsset where it is not as it should be."""
    import numpy as np

    if not (folder / SETTINGS).is_file():
        return None
    try:
        fields = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        scores = np.load(folder / SCORES)
        reference = Reference(fields["settings"], tuple(fields["queries"]), scores)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedAsset(f"The reference of “{folder.name}” cannot be read. Build the index again.") from error
    if scores.shape[0] != len(reference.queries) or not np.isfinite(scores).all():
        raise DamagedAsset(f"The reference of “{folder.name}” is not whole. Build the index again.")
    return reference


def begun(folder: Path, settings: dict[str, Any], queries: tuple[str, ...], examples: int) -> RowCache:
    """The rows of a reference in the making; those made for other settings or pictures are thrown away."""
    asked, plan = {"settings": settings, "queries": list(queries)}, folder / f"{SETTINGS}.partial"
    if not plan.is_file() or json.loads(plan.read_text(encoding="utf-8")) != asked:
        for name in (SETTINGS, SCORES, f"{SCORES}.partial"):
            (folder / name).unlink(missing_ok=True)
        plan.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    return RowCache.open(folder / f"{SCORES}.partial", len(queries), examples)


def finish(folder: Path) -> None:
    """Put a made reference into place; the settings last, so that it is whole or absent."""
    for name in (SCORES, SETTINGS):
        os.replace(folder / f"{name}.partial", folder / name)
