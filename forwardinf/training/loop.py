"""What the trainers share: learning-rate schedule, running average of weights, checkpoints and loss log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ..files.atomic import writing


def schedule(seen: int, total: int, decay_share: float = 0.35) -> float:
    """Learning-rate factor: a plateau, then a linear decay to 0 over the last `decay_share` of `total`.

    The plateau makes `total` adjustable: given a larger total, a finished run continues from the plateau.
    """
    return max(0.0, min(1.0, (total - seen) / (decay_share * total)))


@dataclass(frozen=True)
class Plan:
    """How long a run is and how often it saves; all counts are images seen."""

    total: int
    batch: int
    learning_rate: float
    warmup: int  # over which the learning rate rises, from the beginning or from released weights
    average_over: int  # half-life of the running average of weights
    save_every_s: float = 120.0


class Trainer:
    """Runs `loss_of(images seen, batch size)` to `plan.total`, resumable on any device from `folder/checkpoint.pt`."""

    def __init__(self, modules: dict[str, nn.Module], plan: Plan, folder: Path) -> None:
        self.modules, self.plan, self.folder = modules, plan, folder
        self.parameters: list[torch.Tensor] = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.seen = self.warm_from = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, loss_of: Callable[[int, int], torch.Tensor], on_save: Callable[[], None] | None = None) -> None:
        plan = self.plan
        bar = tqdm(total=plan.total, initial=self.seen, unit="img", mininterval=5.0, disable=None)
        saved, recent = time.monotonic(), []
        while self.seen < plan.total:
            factor = min(schedule(self.seen, plan.total), (self.seen - self.warm_from) / plan.warmup, 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = plan.learning_rate * factor
            loss = loss_of(self.seen, plan.batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.seen += plan.batch
            self._update_average()
            recent.append(float(loss.detach()))
            bar.update(plan.batch)
            if time.monotonic() - saved > plan.save_every_s or self.seen >= plan.total:
                self._log(sum(recent) / len(recent), factor)
                self._save()
                if on_save:
                    with averaged(self):
                        on_save()
                saved, recent = time.monotonic(), []
        bar.close()

    def _update_average(self) -> None:
        # A short average early on, the full half-life once there is history to average over.
        half_life = min(self.plan.average_over, self.seen / 4)
        torch._foreach_lerp_(self.average, self.parameters, 1 - 0.5 ** (self.plan.batch / half_life))

    def _log(self, loss: float, factor: float) -> None:
        line = {"seen": self.seen, "loss": round(loss, 6), "lr": self.plan.learning_rate * factor, "at": time.time()}
        with (self.folder / "loss.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        state = {
            "seen": self.seen,
            "warm_from": self.warm_from,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with writing(self.folder / "checkpoint.pt") as aside:
            torch.save(state, aside)

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            # Released weights without optimizer state: count on from their log, and warm up again.
            log = self.folder / "loss.jsonl"
            self.seen = self.warm_from = images_seen(log) if log.exists() else 0
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.seen, self.warm_from = state["seen"], state["warm_from"]


def images_seen(loss_log: Path) -> int:
    """How many images a trainer had seen when it last wrote its log."""
    last: dict[str, int] = json.loads(loss_log.read_text(encoding="utf-8").splitlines()[-1])
    return last["seen"]


class averaged:
    """Context manager: the modules carry the averaged weights inside, the trained ones outside."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for live, mean in zip(self.trainer.parameters, self.trainer.average, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)
