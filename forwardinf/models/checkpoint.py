"""A checkpoint, a folder in diffusers' format or a single file: the class of its pipeline, and the pipeline itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import diffusers.utils.logging
import torch
import transformers.utils.logging
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from ..errors import DamagedAsset, InvalidSettings, MissingAsset, UnsupportedModel
from ..files import manifest
from .folder import INDEX, instead, require_no_idle_adapter, require_whole, variant_of
from .single_file import kind_of
from .single_file_pipeline import networks_of
from .weights_file import read_header

if TYPE_CHECKING:
    from ..types import ModelSpec

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def pipeline_class(spec: ModelSpec) -> str:
    """The class that a checkpoint's model_index.json names, or that a single file is of; empty where none is named.

    Raises MissingAsset or DamagedAsset where it cannot be read, UnsupportedModel for another kind of file.
    """
    if (file := Path(spec.checkpoint)).is_file():
        return kind_of(read_header(file)).pipeline
    with _failures_of(spec):
        index = DiffusionPipeline.load_config(spec.checkpoint, revision=spec.revision)
    return str(index.get("_class_name") or "")


def load_pipeline(spec: ModelSpec, kind: type[Pipeline], needed: tuple[str, ...], **options: object) -> Pipeline:
    """A file, folder or Hub id as a pipeline of `kind` in float32, from safetensors only; a manifest is verified first.

    Raises MissingAsset or DamagedAsset, UnsupportedModel where it lacks one of the `needed` components, and
    InvalidSettings where this machine does not have the device of `spec`.
    """
    require_device(spec.device)
    if Path(spec.checkpoint).is_file():
        return _from_file(spec, kind, **options)
    if spec.prediction is not None:
        raise InvalidSettings(
            "FORWARDINF_PREDICTION is for a checkpoint in one file. What a folder's UNet predicts is said by "
            "prediction_type in scheduler/scheduler_config.json; leave the setting out."
        )
    folder = Path(spec.checkpoint)
    if (folder / manifest.NAME).is_file():
        manifest.verify_manifest(folder)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    variant = None
    if folder.is_dir():
        require_whole(folder, needed)
        variant = variant_of(folder, needed)
        if spec.adapter is None:
            require_no_idle_adapter(folder)
    with _failures_of(spec), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about settings of generation, which no loss depends on
        pipeline: Pipeline = kind.from_pretrained(
            spec.checkpoint,
            revision=spec.revision,
            variant=variant,
            dtype=torch.float32,
            use_safetensors=True,
            **options,
        )
    if lacking := [name for name in needed if pipeline.components[name] is None]:
        raise UnsupportedModel(
            f"“{folder.name}” has no {lacking[0]}, which a {kind.__name__} needs here. Try a complete checkpoint."
        )
    return pipeline


def _from_file(spec: ModelSpec, kind: type[Pipeline], **options: object) -> Pipeline:
    header = read_header(Path(spec.checkpoint))
    found = kind_of(header)
    if found.pipeline != kind.__name__:
        raise UnsupportedModel(
            f"“{header.name}” is {found.title}, so it cannot be read as another family. Leave FORWARDINF_FAMILY out."
        )
    return kind(**networks_of(header, found, spec), **options)


def require_device(device: str) -> None:
    """Raise InvalidSettings where this machine does not have a device, naming those that it has."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # which of them depends on the kind of device
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise InvalidSettings(
            f"The device “{device}” cannot be used on this machine, which has: {', '.join(there)}. "
            "A GPU also needs a build of torch for it."
        ) from error


@contextmanager
def _failures_of(spec: ModelSpec) -> Iterator[None]:
    """Turns what diffusers raises on reading a checkpoint into our errors, without this machine's paths."""
    folder = Path(spec.checkpoint)
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        name = folder.name
        if not folder.exists():
            raise MissingAsset(f"There is no model “{name}”: it is neither a folder nor a Hub id at hand.") from error
        if not (folder / INDEX).is_file():
            raise MissingAsset(instead(folder)) from error
        why = str(error).replace(str(folder), name)
        raise DamagedAsset(f"The model “{name}” could not be loaded: {why}") from error
