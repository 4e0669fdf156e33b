"""A method whose tasks can be counted, in a module that workers import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from forwardinf.methods.forward_inf import ForwardInf


class Watched(ForwardInf):
    """Notes each task in a folder, and ends the process of its worker at one image."""

    folder: str
    deadly: str = ""

    def measure(self, model: Any, state: Any, one_round: Any, batch: Any, draws: Any) -> torch.Tensor:
        Path(self.folder, f"{one_round.quantity} {batch.example_ids[0]}").touch()
        if self.deadly in batch.example_ids:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(model, state, one_round, batch, draws)
