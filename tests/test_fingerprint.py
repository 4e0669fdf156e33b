"""What names a model changes with everything that decides a loss, and with nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, PNDMScheduler
from transformers import CLIPTokenizer

from conftest import CAPTIONS, tiny_pipeline, tiny_unet, tiny_vae, write_patches
from forwardinf.attribution.attributor import Attributor
from forwardinf.errors import IndexMismatch
from forwardinf.examples.metadata import training_images
from forwardinf.index.build import BuildPlan, build_index
from forwardinf.models.fingerprint import COSMETIC, configuration_of, contents_of
from forwardinf.models.noise import TRAINING_SETTINGS
from forwardinf.models.registry import load_model
from forwardinf.models.sd import StableDiffusion
from forwardinf.training.vocabulary import learn_tokenizer
from forwardinf.types import ModelSpec


def fingerprint_after(change: Callable[[Any], object] = lambda pipeline: None, dtype: str = "float32") -> str:
    pipeline = tiny_pipeline()
    change(pipeline)
    return StableDiffusion(pipeline, ModelSpec("tiny", dtype=dtype)).fingerprint


def setting(component: str, name: str, value: object) -> Callable[[Any], object]:
    def change(pipeline: Any) -> None:
        network = getattr(pipeline, component)
        if component == "text_encoder":
            setattr(network.config, name, value)
        else:
            network.register_to_config(**{name: value})

    return change


def other_weights(component: str) -> Callable[[Any], object]:
    def change(pipeline: Any) -> None:
        next(getattr(pipeline, component).parameters()).data.mul_(1.5)

    return change


def other_tokenizer(**settings: object) -> Callable[[Any], object]:
    def change(pipeline: Any) -> None:
        for name, value in settings.items():
            setattr(pipeline.tokenizer, name, value)

    return change


def other_vocabulary(pipeline: Any) -> None:
    told = json.loads(pipeline.tokenizer.backend_tokenizer.to_str())["model"]
    first, second, *rest = [tuple(pair) for pair in told["merges"]]
    pipeline.tokenizer = CLIPTokenizer(vocab=told["vocab"], merges=[second, first, *rest], model_max_length=24)


def other_scheduler(**settings: object) -> Callable[[Any], object]:
    return lambda pipeline: setattr(
        pipeline, "scheduler", type(pipeline.scheduler).from_config(pipeline.scheduler.config, **settings)
    )


SCHEDULES: dict[str, object] = {
    "prediction_type": "epsilon",
    "num_train_timesteps": 500,
    "beta_schedule": "linear",
    "beta_start": 0.002,
    "beta_end": 0.03,
    "trained_betas": [0.01] * 1000,
    "rescale_betas_zero_snr": True,
}
DECIDING = {
    **{f"{part} weights": other_weights(part) for part in ("unet", "vae", "text_encoder")},
    **{f"noise {name}": other_scheduler(**{name: value}) for name, value in SCHEDULES.items()},
    "vae scaling": setting("vae", "scaling_factor", 0.9),
    "vae norm groups": setting("vae", "norm_num_groups", 2),
    "vae activation": setting("vae", "act_fn", "relu"),
    "vae half precision": setting("vae", "force_upcast", False),
    "unet size": setting("unet", "sample_size", 16),
    "unet heads": setting("unet", "attention_head_dim", 4),
    "unet norm groups": setting("unet", "norm_num_groups", 2),
    "unet norm epsilon": setting("unet", "norm_eps", 1e-3),
    "unet activation": setting("unet", "act_fn", "gelu"),
    "unet time embedding": setting("unet", "flip_sin_to_cos", False),
    "unet time shift": setting("unet", "freq_shift", 1),
    "unet centred input": setting("unet", "center_input_sample", True),
    "unet residuals": setting("unet", "resnet_out_scale_factor", 2.0),
    "text heads": setting("text_encoder", "num_attention_heads", 4),
    "text activation": setting("text_encoder", "hidden_act", "gelu"),
    "text norm epsilon": setting("text_encoder", "layer_norm_eps", 1e-3),
    "text end": setting("text_encoder", "eos_token_id", 5),
    "prompt length": other_tokenizer(model_max_length=20),
    "prompt padding": other_tokenizer(pad_token_id=0),
    "prompt padding side": other_tokenizer(padding_side="left"),
    "prompt cut": other_tokenizer(truncation_side="left"),
    "vocabulary": other_vocabulary,
}


def test_every_setting_of_the_schedule_is_tried():
    assert SCHEDULES.keys() == set(TRAINING_SETTINGS)


@pytest.mark.parametrize("ingredient", DECIDING)
def test_each_ingredient_of_a_loss_changes_the_fingerprint(ingredient: str):
    assert fingerprint_after(DECIDING[ingredient]) != fingerprint_after()


COSMETIC_CHANGES = {
    "dropout": setting("unet", "dropout", 0.1),
    "where it came from": setting("unet", "_name_or_path", "elsewhere"),
    "what saved it": setting("text_encoder", "transformers_version", "1.0"),
    "how it was initialised": setting("text_encoder", "initializer_range", 0.5),
    "steps of drawing": other_scheduler(timestep_spacing="trailing", steps_offset=0),
    "the calls before": lambda pipeline: pipeline.tokenizer("red apple", truncation=True, max_length=3),
    "a default, written": setting("vae", "latents_mean", None),
}


@pytest.mark.parametrize("change", COSMETIC_CHANGES)
def test_nothing_else_changes_it(change: str):
    assert fingerprint_after(COSMETIC_CHANGES[change]) == fingerprint_after()


@pytest.mark.parametrize("kind", [DDPMScheduler, PNDMScheduler])  # of which the latter knows no rescaling
def test_it_is_the_same_with_another_sampler_of_the_same_schedule(kind: type):
    def sampled_otherwise(pipeline: Any) -> None:
        named = {name: pipeline.scheduler.config[name] for name in TRAINING_SETTINGS}
        pipeline.scheduler = kind(
            **{name: value for name, value in named.items() if name in signature(kind).parameters}
        )

    assert fingerprint_after(sampled_otherwise) == fingerprint_after()


def test_rescaled_schedules_that_end_at_other_noise_have_other_names():
    """DDIM ends at ᾱ = 0, Euler just above it, so their losses at the last timestep differ."""

    def rescaled(kind: type) -> Callable[[Any], None]:
        settings = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
        return lambda pipeline: setattr(pipeline, "scheduler", kind(**settings))

    assert fingerprint_after(rescaled(DDIMScheduler)) != fingerprint_after(rescaled(EulerDiscreteScheduler))


@pytest.mark.parametrize("network", [tiny_unet(cross_attention_dim=8), tiny_vae()], ids=["unet", "vae"])
def test_every_value_of_a_configuration_counts_unless_it_is_named_as_cosmetic(network: Any):
    before, settings = configuration_of(network), {name for name in network.config if not name.startswith("_")}
    for name in settings:
        value = network.config[name]
        network.register_to_config(**{name: "changed"})
        assert (configuration_of(network) == before) == (name in COSMETIC), name
        network.register_to_config(**{name: value})
    assert configuration_of(network) == before
    assert len(settings) > 15


def test_it_does_not_depend_on_the_precision_a_model_is_run_in(tiny_checkpoint: Path):
    assert fingerprint_after(dtype="float16") == fingerprint_after()
    loaded = [load_model(ModelSpec(str(tiny_checkpoint), dtype=kept)) for kept in ("float16", "float32")]
    assert [model.vae.dtype for model in loaded] == [torch.float16, torch.float32]
    assert loaded[0].fingerprint == loaded[1].fingerprint == fingerprint_after()


def test_a_tokenizer_counts_whole():
    whole = contents_of(learn_tokenizer(CAPTIONS, size=600))
    assert {
        "model",
        "normalizer",
        "pre_tokenizer",
        "post_processor",
        "added_tokens",
        "model_max_length",
    } <= whole.keys()
    assert whole["model"]["vocab"]
    assert whole["model"]["merges"]


@pytest.mark.parametrize(
    ("component", "name", "value"), [("vae", "scaling_factor", 0.9), ("unet", "sample_size", 16)], ids=["vae", "unet"]
)
def test_an_index_refuses_a_copy_of_its_model_that_is_configured_otherwise(
    component: str, name: str, value: object, tiny_checkpoint: Path, tmp_path: Path
):
    (tmp_path / "patches").mkdir()
    patches = training_images(write_patches(tmp_path / "patches", 3))
    plan = BuildPlan(draws=2, fisher_images=1, fisher_draws=1)
    index = build_index(load_model(ModelSpec(str(tiny_checkpoint))), patches, tmp_path / "index", plan)
    shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    path = tmp_path / "copy" / component / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(IndexMismatch, match="another model"):
        Attributor(load_model(ModelSpec(str(tmp_path / "copy"))), index)
