"""What names a model: SHA-256 over its weights and over every setting that a loss depends on.

Settings follow one rule. Of a network's configuration counts every value that differs from its class's default, but for
those in COSMETIC; so a newer library that adds a setting with a default names the same model the same. A tokenizer
counts whole. Weights count as float32, whatever they are run in, and nothing that was computed counts, as its last bits
differ from one kind of processor to another.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Network: TypeAlias = ModelMixin | PreTrainedModel

# What no output in evaluation mode depends on. Names with a leading underscore say where a component comes from.
COSMETIC = frozenset(
    {
        *("architectures", "dtype", "torch_dtype", "transformers_version"),
        *("attention_dropout", "classifier_dropout", "dropout", "initializer_factor", "initializer_range"),
        *("id2label", "label2id", "problem_type", "use_cache"),
    }
)


def fingerprint_of(networks: Mapping[str, Network], settings: Mapping[str, Any]) -> str:
    """Of named networks with their configurations, and of `settings` in JSON's types; the order does not matter."""
    digest = hashlib.sha256()
    for name, network in sorted(networks.items()):
        _update(digest, {name: configuration_of(network)})
        _update_with_weights(digest, network)
    _update(digest, dict(settings))
    return digest.hexdigest()


def fingerprint_of_module(network: torch.nn.Module) -> str:
    """Of a network without a configuration: how it is built, as torch prints it, and its weights."""
    digest = hashlib.sha256(str(network).encode())
    _update_with_weights(digest, network)
    return digest.hexdigest()


def _update_with_weights(digest: hashlib._Hash, network: torch.nn.Module) -> None:
    for key, weights in sorted(network.state_dict().items()):
        _update(digest, [key, list(weights.shape)])
        whole = weights.detach().cpu()
        whole = whole.float() if whole.is_floating_point() else whole
        digest.update(whole.contiguous().flatten().view(torch.uint8).numpy())


def configuration_of(network: Network) -> dict[str, Any]:
    """The settings of a network of diffusers or transformers that its outputs may depend on, and its class."""
    config = network.config
    if hasattr(config, "to_dict"):
        told, usual = config.to_dict(), type(config)().to_dict()
    else:
        parameters = inspect.signature(type(network)).parameters
        told, usual = dict(config), {name: parameter.default for name, parameter in parameters.items()}
    return {"class": type(network).__name__, **_plain(_unusual(told, usual))}


def _unusual(told: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings, also of those within them, the ones that are not as usual."""
    chosen = {name: value for name, value in told.items() if name not in COSMETIC and not name.startswith("_")}
    unusual = {name: value for name, value in chosen.items() if _plain(value) != _plain(usual.get(name))}
    return {
        name: _unusual(value, usual[name]) if isinstance(value, dict) and isinstance(usual.get(name), dict) else value
        for name, value in unusual.items()
    }


def contents_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All that a tokenizer makes of a text: vocabulary, merges, rules, and the length to which it pads and cuts."""
    contents: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    del contents["truncation"], contents["padding"]  # as the last call left them
    for name in ("model_max_length", "padding_side", "truncation_side", "pad_token_id", "pad_token_type_id"):
        contents[name] = getattr(tokenizer, name)
    return contents


def _update(digest: hashlib._Hash, told: dict[str, Any] | list[Any]) -> None:
    digest.update(json.dumps(told, sort_keys=True, default=list).encode())


def _plain(value: object) -> Any:  # noqa: ANN401
    """As JSON has it, in which a tuple is a list."""
    return json.loads(json.dumps(value, default=str))
