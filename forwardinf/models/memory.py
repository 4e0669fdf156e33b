"""How much memory a model takes and a query of it, said from the headers of its files before any of it is taken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import ForwardInfError, OutOfMemory
from .adapter_file import read_adapter
from .weights import PATTERNS
from .weights_file import read_header

if TYPE_CHECKING:
    from ..types import ModelSpec

Shapes = Mapping[str, tuple[int, ...]]
UNET_KEYS = ("unet/", "model.diffusion_model.")
ENTRANCES = ("unet/conv_in.weight", "model.diffusion_model.input_blocks.0.0.weight")
UNREAD = ("model_ema.", "safety_checker", "image_encoder")  # beginnings of keys, or folders, that no family loads
# For each weight that moves: Fisher, gradient and its mean, two moves, and the weight as it was, in float32.
MOVED_COPIES = 6
# Activations that a gradient keeps block by block, of 64 × 64 latents in Stable Diffusion 1.5 in float32.
KEPT, WIDTH, SIDE = 300 * 2**20, 320, 64
GIB = 2**30


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes, and what a query takes beside it."""

    name: str
    loading: int  # all weights in float32, in the machine's memory
    weights: int  # in the precision that they are run in
    moved: int  # numbers that a query moves
    backward: int

    @property
    def query(self) -> int:
        return 4 * MOVED_COPIES * self.moved + self.backward

    @property
    def most(self) -> int:
        """At the worst moment, where the networks run in the machine's memory."""
        return max(self.loading, self.weights + self.query)

    def __str__(self) -> str:
        return (
            f"“{self.name}” takes about {_gib(self.weights)} GiB of memory, and a query {_gib(self.query)} GiB beside "
            f"it: Fisher, gradient and moves of {self.moved / 1e6:,.1f} million weights, and its backward"
        )


def need_of(spec: ModelSpec) -> Need | None:
    """None where the files are not at hand, as those of a Hub id, or cannot be read, which loading them will say."""
    try:
        shapes = _shapes(Path(spec.checkpoint))
        if not shapes:
            return None
        moved = _moved(spec, shapes)
    except (ForwardInfError, OSError, ValueError, re.error):
        return None
    count = sum(map(prod, shapes.values()))
    each = 2 if spec.dtype == "float16" else 4
    width = next((shapes[key][0] for key in ENTRANCES if key in shapes), WIDTH)
    side = _side(Path(spec.checkpoint), shapes)
    backward = KEPT * side**2 * width * each // (SIDE**2 * WIDTH * 4)
    # What moves stays in float32; an adapter's matrices come on top of the weights.
    added = 4 * moved if spec.adapter else (4 - each) * moved
    return Need(spec.name, 4 * count, each * count + added, moved, backward)


def require_memory(spec: ModelSpec) -> None:
    """Raise OutOfMemory, with what to choose instead, where a model and a query of it cannot fit into this machine."""
    need = need_of(spec)
    free = available(spec.device)
    if need is None or free is None:
        return
    wanted = need.most if spec.device == "cpu" else need.weights + need.query
    if wanted <= free:
        return
    ways = []
    if spec.adapter is None and spec.tunable == "all":
        ways.append("--tunable “cross-attention k,v”, which moves a small part of the weights,")
    if spec.dtype == "float32" and spec.device != "cpu":
        ways.append("--dtype float16,")
    raise OutOfMemory(f"{need}, but {_gib(free)} GiB are free. Try {' or '.join([*ways, 'a machine with more'])}.")


def available(device: str) -> int | None:
    """Bytes that can be taken now; None where the system does not say. A swap counts, as what is idle goes there."""
    if device.startswith("cuda"):
        try:
            return int(torch.cuda.mem_get_info(device)[0])
        except (AssertionError, RuntimeError):  # no such device, which loading will say
            return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    told = {name: 1024 * int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return told.get("MemAvailable", 0) + told.get("SwapFree", 0) or None


def _shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Of every weight of a file, or of a folder's networks with the component before each name."""
    if checkpoint.is_file():
        shapes = read_header(checkpoint).shapes
        return {name: shape for name, shape in shapes.items() if not name.startswith(UNREAD)}
    if not (checkpoint / "unet").is_dir():
        return {}
    return {name: shape for file in _files(checkpoint) for name, shape in file}


def _side(checkpoint: Path, shapes: Shapes) -> int:
    """Of the latents that a model was trained on."""
    if checkpoint.is_file():
        return 2 * SIDE if "model.diffusion_model.label_emb.0.0.weight" in shapes else SIDE
    size = json.loads((checkpoint / "unet" / "config.json").read_bytes()).get("sample_size")
    return size if isinstance(size, int) else SIDE


def _files(folder: Path) -> Iterator[list[tuple[str, tuple[int, ...]]]]:
    """The plain files of each network, or those of its variants."""
    read = (config for config in sorted(folder.glob("*/config.json")) if config.parent.name not in UNREAD)
    for network in read:
        found = sorted(network.parent.glob("*.safetensors"))
        plain = [file for file in found if re.search(r"model(-\d+-of-\d+)?\.safetensors$", file.name)]
        for file in plain or found:
            yield [(f"{network.parent.name}/{name}", shape) for name, shape in read_header(file).shapes.items()]


def _moved(spec: ModelSpec, shapes: Shapes) -> int:
    """How many numbers of the UNet a query moves."""
    if spec.adapter is not None and spec.tunable == "adapter":
        return sum(part.numel() for layer in read_adapter(spec.adapter.file).layers for part in layer.parts.values())
    pattern = re.compile(PATTERNS.get(spec.tunable, spec.tunable))
    unet = {f".{_bare(name)}": shape for name, shape in shapes.items() if name.startswith(UNET_KEYS)}
    matching = [shape for name, shape in unet.items() if pattern.search(name) or pattern.search(name[1:])]
    return sum(map(prod, matching or unet.values()))


def _bare(name: str) -> str:
    return next(name.removeprefix(key) for key in UNET_KEYS if name.startswith(key))


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
