"""What every page stands on: one model, one catalog, and the lock that lets one request at a time use the model."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ..index.catalog import Catalog
from ..models import PictureModel


@dataclass(frozen=True)
class Served:
    """The lock is ours because a cancelled handler runs to its end while Gradio already starts the next."""

    model: PictureModel
    catalog: Catalog
    lock: threading.Lock = field(default_factory=threading.Lock)
