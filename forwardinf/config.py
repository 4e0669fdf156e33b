"""Settings from the environment (`FORWARDINF_…`) and from flags, validated once at the start."""

from __future__ import annotations

import math
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import InvalidSettings
from .types import Adapter, ModelSpec

ASSETS = Path(__file__).resolve().parent.parent / "assets"
PRECISIONS = ("float32", "float16")
EMOJI_MODEL = ASSETS / "emoji-diffusion"
EMOJI_INDEX = ASSETS / "emoji-index"
EMOJI_ANSWERS = ASSETS / "answers"
RESULTS = Path(".local/share/forwardinf/results")  # below the user's home
USERS = Path(".local/share/forwardinf/users.json")


def _default_host() -> str:
    """This machine alone, unless a Hugging Face Space or another host of Gradio apps says otherwise."""
    return os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")


class Settings(BaseSettings):
    """Every setting of the app, each also an environment variable: `FORWARDINF_PORT=8080`."""

    model_config = SettingsConfigDict(env_prefix="FORWARDINF_", frozen=True)

    model: str = Field(
        str(EMOJI_MODEL),
        description="checkpoint: folder or Hub id in diffusers' format, or a single .safetensors file",
    )
    revision: str | None = Field(None, description="Hub revision; pin the resolved commit")
    family: str | None = Field(None, description="model family, to override what the checkpoint says")
    prediction: Literal["epsilon", "v_prediction"] | None = Field(
        None, description="what the UNet of a single file predicts, where the file does not say"
    )
    lora: str | None = Field(
        None, description="LoRA on the model: .safetensors file or PEFT's folder, and :weight where that is not 1"
    )
    picture_size: int | None = Field(
        None, ge=8, description="side of the pictures the model was trained on, in pixels; by default as it says"
    )
    index: Path = Field(EMOJI_INDEX, description="folder made by `forwardinf index build`")
    embedder: str | None = Field(None, description="CLIP or DINOv2 that the index was made with: folder or Hub id")
    results: Path | None = Field(
        None, description="folder for finished attributions; by default ~/.local/share/forwardinf/results"
    )
    review_url: str | None = Field(
        None, description="SQLAlchemy URL of the database of cases; by default review.sqlite beside the results"
    )
    signing_key: Path | None = Field(None, description="Ed25519 private key (PEM) that evidence packs are signed with")
    timestamp_url: str | None = Field(None, description="RFC 3161 server that evidence packs are stamped by")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1, mps")
    dtype: str | None = Field(
        None, description="what the networks run in: float32 or float16; by default as the index was built"
    )
    executor: str = Field("threads", description="where sweeps run: threads (of this process) or ray")
    ray_address: str | None = Field(
        None, description="host:port of a Ray cluster's head node, or auto; by default a cluster on this machine alone"
    )
    ray_workers: int | None = Field(None, ge=1, description="Ray workers at most; by default one to a GPU or core")
    host: str = Field(default_factory=_default_host, description="address the app listens on")
    port: int = Field(7860, ge=1, le=65535, description="port the app listens on")
    allow_host: str = Field(
        default_factory=lambda: os.environ.get("SPACE_HOST", ""),
        description="further names that the app is served under, separated by commas",
    )

    users: Path | None = Field(
        None, description="file of those who may sign in; by default ~/.local/share/forwardinf/users.json"
    )
    insecure: bool = Field(False, description="listen beyond this machine without sign-in")

    build_root: str | None = Field(
        None, description="folders that indexes may be built from in the browser, separated by “:”; by default off"
    )

    @field_validator("dtype")
    @classmethod
    def _precise(cls, dtype: str | None) -> str | None:
        if dtype is not None:
            require_precision(dtype)
        return dtype

    @property
    def users_file(self) -> Path:
        """Raises InvalidSettings where none is named and there is no home to look in."""
        try:
            return self.users or Path.home() / USERS
        except RuntimeError as error:
            raise InvalidSettings("There is no home folder. Name a file by --users or FORWARDINF_USERS.") from error

    @property
    def is_local(self) -> bool:
        """Whether the app can be reached from this machine alone."""
        host = self.host.strip("[]")
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def asks_to_sign_in(self) -> bool:
        """Where users are named, and else where others can reach the app, unless it was said that all may."""
        return self.users is not None or not (self.is_local or self.insecure)

    @property
    def build_roots(self) -> tuple[Path, ...]:
        return tuple(map(Path, filter(None, (self.build_root or "").split(os.pathsep))))

    @property
    def may_build(self) -> bool:
        """Whether indexes may be built in the browser: where folders are named, and not by strangers."""
        return bool(self.build_roots) and (self.is_local or self.asks_to_sign_in)

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        return tuple(filter(None, (name.strip() for name in self.allow_host.split(","))))

    @property
    def framed_by(self) -> str | None:
        """The site that shows the app in a frame: a Hugging Face Space is shown so."""
        return "https://huggingface.co" if os.environ.get("SPACE_ID") else None

    def model_spec(
        self, tunable: str | None = None, index_dtype: str | None = None, fit: str | None = None, flip: bool = False
    ) -> ModelSpec:
        """The model, in the precision of the index that it is to be used with where no setting says otherwise.

        Without either in float16 on CUDA, elsewhere in float32; also where every weight may move, as those that may are
        kept in float32. Of a model with an adapter a query moves that, where nothing else is named.
        """
        adapter = parse_adapter(self.lora) if self.lora else None
        tunable = tunable or ("adapter" if adapter else ModelSpec.tunable)
        usual = "float16" if self.device.startswith("cuda") and tunable != "all" else "float32"
        dtype = self.dtype or index_dtype or usual
        kept = (self.model, self.revision, self.family, dtype, self.device, tunable, adapter, self.prediction)
        return ModelSpec(*kept, fit, flip, self.picture_size)


def parse_adapter(written: str) -> Adapter:
    """An adapter from FILE or FILE:WEIGHT; raises InvalidSettings for a weight that cannot be used."""
    file, colon, number = written.rpartition(":")
    if not colon or Path(written).exists():
        return Adapter(written)
    try:
        weight = float(number)
    except ValueError:
        return Adapter(written)
    if not math.isfinite(weight) or weight == 0:
        raise InvalidSettings(f"The LoRA's weight is {number}; it must be a number other than 0, such as 0.8.")
    return Adapter(file, weight)


def usual_fit(spec: ModelSpec) -> str:
    """How pictures are made a model's shape where nobody says: as the shipped one was trained, else as most are."""
    shipped = spec.adapter is None and Path(spec.checkpoint).resolve() == EMOJI_MODEL
    return "pad" if shipped else "crop"


def require_precision(dtype: str) -> None:
    """Raise InvalidSettings for what networks cannot run in here, or not precisely enough.

    bfloat16 is refused: in it, changes of single losses correlated with those in float32 by 0.60 to 0.90 on the shipped
    model, where those in float16 did by 0.99 and more.
    """
    if dtype not in PRECISIONS:
        why = "; it rounds losses by more than a query changes them" if dtype == "bfloat16" else ""
        raise InvalidSettings(f"The dtype “{dtype}” cannot be used{why}. Try {' or '.join(PRECISIONS)}.")


def load_settings(**flags: object) -> Settings:
    """Settings with `flags` that are not None over the environment; raises InvalidSettings naming what is wrong."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise InvalidSettings(f"These settings cannot be used: {wrong}.") from error
