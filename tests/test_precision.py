"""What runs in half precision: the networks, but neither the weights that a query moves nor their moves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from conftest import tiny_pipeline, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.config import PRECISIONS, load_settings
from forwardinf.draws import DrawPlan
from forwardinf.errors import IndexMismatch, InvalidRequest, InvalidSettings
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.index.info import IndexInfo, read_info
from forwardinf.index.store import Index
from forwardinf.methods.mirror import Objective, moved
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.models.weights import TunableWeights
from forwardinf.types import Draws, LatentBatch, ModelSpec, Query

SHAPE = (4, 8, 8)
KEYS_AND_VALUES = "cross-attention k,v"


def model_in(dtype: str, tunable: str = KEYS_AND_VALUES) -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), ModelSpec("tiny", dtype=dtype, tunable=tunable))


def batch_of(model: StableDiffusion) -> tuple[LatentBatch, Draws]:
    latents = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    batch = LatentBatch(("a", "b"), latents, model.encode_prompt(["red apple", "green pear"]))
    return batch, DrawPlan(0, 2).draws(batch.example_ids, SHAPE)


@pytest.mark.parametrize("tunable", [KEYS_AND_VALUES, "attention", "all"])
def test_moves_are_exact_and_other_weights_in_half_precision(tunable: str):
    whole, half = model_in("float32", tunable), model_in("float16", tunable)
    deltas = {name: p.detach() * 2**-14 for name, p in whole.tunable_parameters().items()}  # float16 has 2^-11
    with whole.with_deltas(deltas), half.with_deltas(deltas):
        for name, weights in whole.tunable_parameters().items():
            assert torch.equal(half.tunable_parameters()[name], weights)
    holders = {name.rpartition(".")[0] for name in deltas}
    others = {p.dtype for name, p in half.unet.named_parameters() if name.rpartition(".")[0] not in holders}
    assert others == ({torch.float16} if tunable != "all" else set())
    assert {half.vae.dtype, half.text_encoder.dtype} == {torch.float16}


@pytest.mark.parametrize("tunable", [KEYS_AND_VALUES, "all"])
def test_losses_and_gradients_in_half_precision_are_close(tunable: str):
    whole, half = model_in("float32", tunable), model_in("float16", tunable)
    torch.testing.assert_close(half.loss(*batch_of(half)), whole.loss(*batch_of(whole)), rtol=5e-3, atol=0)
    for model in (whole, half):
        (model.loss(*batch_of(model)).mean() * 128).backward()
    for name, weights in whole.tunable_parameters().items():
        there = half.tunable_parameters()[name].grad
        assert there.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(there.flatten(), weights.grad.flatten(), dim=0) > 0.98, name


def test_a_model_put_into_half_precision_can_be_put_back():
    half = model_in("float16")
    again = StableDiffusion(half.pipeline, ModelSpec("tiny", tunable="all"))
    assert again.loss(*batch_of(again)).dtype == torch.float32
    assert {p.dtype for p in again.unet.parameters()} == {torch.float32}


def test_a_precision_that_drowns_changes_in_rounding_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InvalidSettings, match=r"bfloat16.*rounds losses.*float32 or float16"):
        model_in("bfloat16")
    monkeypatch.setenv("FORWARDINF_DTYPE", "bfloat16")
    with pytest.raises(InvalidSettings, match=r"bfloat16.*rounds losses"):
        load_settings()


def test_convolutions_in_float32_keep_all_their_bits(tiny_model: StableDiffusion):
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("device", "tunable", "of_index", "given", "expected"),
    [
        ("cpu", KEYS_AND_VALUES, None, None, "float32"),
        ("cuda", KEYS_AND_VALUES, None, None, "float16"),
        ("cuda:1", "attention", None, None, "float16"),
        ("cuda", "all", None, None, "float32"),
        ("cuda", KEYS_AND_VALUES, "float32", None, "float32"),
        ("cpu", KEYS_AND_VALUES, "float16", None, "float16"),
        ("cuda", KEYS_AND_VALUES, None, "float32", "float32"),
        ("cpu", "all", "float32", "float16", "float16"),
    ],
)
def test_the_precision_is_that_given_or_that_of_the_index_or_what_suits_the_device(
    device: str, tunable: str, of_index: str | None, given: str | None, expected: str
):
    assert load_settings(device=device, dtype=given).model_spec(tunable, of_index).dtype == expected


@pytest.fixture(scope="module")
def half_index(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Index:
    patches = training_images(write_patches(tmp_path_factory.mktemp("patches"), 4))
    model = load_model(ModelSpec(str(tiny_checkpoint), dtype="float16", tunable=KEYS_AND_VALUES))
    return build_index(model, patches, tmp_path_factory.mktemp("half") / "index", BuildPlan(draws=2, fisher_images=2))


def test_an_index_is_used_in_the_precision_that_it_was_built_in(
    half_index: Index, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORWARDINF_MODEL", str(tiny_checkpoint))
    assert Attributor.load(half_index).model.spec.dtype == "float16"
    whole = ModelSpec(str(tiny_checkpoint), dtype="float32")
    with pytest.raises(IndexMismatch, match=r"built in float16, but the model runs in float32.*--dtype"):
        Attributor.load(half_index, whole)


def test_the_precision_of_an_index_is_written_where_it_is_not_float32(half_index: Index, patches_index: Path):
    assert read_info(half_index.folder).dtype == "float16"
    assert b'"dtype": "float16"' in (half_index.folder / "index.json").read_bytes()
    assert b"dtype" not in (patches_index / "index.json").read_bytes()  # as in indexes from before there was another
    assert read_info(patches_index).dtype == IndexInfo.dtype == "float32" in PRECISIONS


class Stubborn:
    """A model whose loss rises with its one weight, by a hundredth at most."""

    spec = ModelSpec("stubborn")

    def __init__(self) -> None:
        self.network = torch.nn.ParameterDict({"w": torch.zeros(1)})

    def tunable_parameters(self) -> dict[str, torch.Tensor]:
        return {"w": self.network["w"]}

    def loss(self, batch: LatentBatch, draws: Draws) -> torch.Tensor:
        return (1 + self.network["w"].clamp(max=0.01)).expand(1, 1)

    def with_deltas(self, deltas: dict[str, torch.Tensor]) -> object:
        return TunableWeights(self.network, "w").moved(deltas)


def test_a_budget_that_the_steps_miss_is_an_error():
    query = Query("q", "0", "", torch.zeros(1, 1, 1, 1), torch.zeros(1, 1))
    draws = Draws(torch.zeros(1, 1), torch.zeros(1, 1, 1, 1, 1))
    step = moved(Objective(Stubborn(), query.batch(), draws), lambda g: g, 1, 1, 0.005)
    assert step.after == pytest.approx(1.005, rel=1e-3)
    with pytest.raises(InvalidRequest, match=r"change this query's loss by 10\.000%, but changed it by 1\.000%"):
        moved(Objective(Stubborn(), query.batch(), draws), lambda g: g, 1, 1, 0.1)
