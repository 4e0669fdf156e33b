"""Settings from the environment (`FORWARDINF_…`) and from flags, validated once at the start."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import InvalidSettings
from .types import ModelSpec

ASSETS = Path(__file__).resolve().parent.parent / "assets"
EMOJI_INDEX = ASSETS / "emoji-index"
EMOJI_ANSWERS = ASSETS / "answers"


def _default_host() -> str:
    """This machine alone, unless a Hugging Face Space or another host of Gradio apps says otherwise."""
    return os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")


class Settings(BaseSettings):
    """Every setting of the app, each also an environment variable: `FORWARDINF_PORT=8080`."""

    model_config = SettingsConfigDict(env_prefix="FORWARDINF_", frozen=True)

    model: str = Field(
        str(ASSETS / "emoji-diffusion"), description="folder or Hub id of a checkpoint in diffusers' format"
    )
    revision: str | None = Field(None, description="Hub revision; pin the resolved commit")
    family: str | None = Field(None, description="model family, to override what the checkpoint says")
    index: Path = Field(EMOJI_INDEX, description="folder made by `forwardinf index build`")
    embedder: str | None = Field(None, description="CLIP or DINOv2 that the index was made with: folder or Hub id")
    results: Path | None = Field(
        None, description="folder for finished attributions; by default ~/.local/share/forwardinf/results"
    )
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1, mps")
    dtype: str = Field(
        "float32",
        pattern="^(float32|float16|bfloat16)$",
        description="of the UNet: float32, float16, bfloat16",
    )
    host: str = Field(default_factory=_default_host, description="address the app listens on")
    port: int = Field(7860, ge=1, le=65535, description="port the app listens on")

    def model_spec(self) -> ModelSpec:
        return ModelSpec(self.model, self.revision, self.family, dtype=self.dtype, device=self.device)


def load_settings(**flags: object) -> Settings:
    """Settings with `flags` that are not None over the environment; raises InvalidSettings naming what is wrong."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise InvalidSettings(f"These settings cannot be used: {wrong}.") from error
