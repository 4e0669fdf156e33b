"""Images trained on are told from held-out ones by their errors, and alike ones are not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_adapters import lora
from typer.testing import CliRunner

from conftest import write_patches
from forwardinf.attribution.membership import in_words, membership_in, membership_of
from forwardinf.cli.main import app
from forwardinf.errors import InvalidRequest
from forwardinf.examples.metadata import training_images
from forwardinf.models.sd import load
from forwardinf.scoring.membership import Errors, membership, separation
from forwardinf.types import Adapter, ModelSpec


def errors(count: int, learned: float, seed: int, draws: int = 4) -> Errors:
    """Errors that differ more from image to image than an adapter, which takes away a share of each, lowers them."""
    random = torch.Generator().manual_seed(seed)
    without = torch.linspace(0.1, 1.1, count).unsqueeze(1) + torch.linspace(0, 1, draws)
    return Errors(without * (1 - learned + 0.02 * torch.randn(count, draws, generator=random)), without)


def test_what_an_adapter_took_away_tells_images_apart_where_their_errors_do_not():
    found = membership(errors(20, 0.2, seed=0), errors(20, 0.05, seed=1))
    assert found.learned.auc == 1.0
    assert found.learned.low > 0.85
    assert found.lower.low < 0.5 < found.lower.high
    assert found.lower_without.low < 0.5 < found.lower_without.high
    assert in_words(found).verdict == "agrees"
    assert in_words(membership(errors(20, 0.05, seed=1), errors(20, 0.2, seed=0))).verdict == "differs"


def test_images_that_were_learned_alike_are_not_told_apart():
    found = in_words(membership(errors(30, 0.1, seed=0), errors(30, 0.1, seed=1)))
    assert (found.verdict, found.told.partition(":")[0]) == ("not stated", "no sign that they were trained on")


def test_without_an_adapter_errors_alone_are_compared():
    low, high = Errors(torch.rand(20, 4)), Errors(torch.rand(20, 4) + 2)
    found = membership(low, high)
    assert (found.learned, found.lower_without, found.decisive.auc) == (None, None, 1.0)
    assert "their error is lower" in in_words(found).told


def test_the_interval_is_newcombes_and_holds_for_few_images():
    """Method 5 of Newcombe (2006), whose equation each end solves; and where nothing overlaps."""
    torch.manual_seed(0)
    m, n = 12, 9
    found = separation(torch.randn(m) + 1, torch.randn(n))
    for end in (found.low, found.high):
        more = (m + n) / 2 - 1
        variance = end * (1 - end) * (1 + more * (1 - end) / (2 - end) + more * end / (1 + end)) / (m * n)
        assert abs(found.auc - end) == pytest.approx(1.96 * variance**0.5, rel=1e-3)
    apart = separation(torch.arange(10.0) + 10, torch.arange(10.0))
    assert (apart.auc, apart.high) == (1.0, 1.0)
    assert 0.75 < apart.low < 0.9
    assert separation(torch.zeros(6), torch.zeros(6)).auc == 0.5


def test_too_few_images_are_refused():
    with pytest.raises(InvalidRequest, match="4 images trained on and 20 held out; to compare them takes 5"):
        membership(errors(4, 0.1, 0), errors(20, 0.1, 1))


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("trained", "others"):
        (tmp_path / name).mkdir()
    return write_patches(tmp_path / "trained", 6), write_patches(tmp_path / "others", 5)


def test_errors_are_taken_with_the_adapter_on_and_off(tmp_path: Path, tiny_checkpoint: Path, two_sets):
    file = lora(tmp_path / "style.safetensors")
    model = load(ModelSpec(str(tiny_checkpoint), tunable="adapter", adapter=Adapter(str(file))))
    told = []
    found = membership_of(model, *map(training_images, two_sets), on_progress=lambda *now: told.append(now))
    assert (found.trained, found.held_out, told[0], told[-1]) == (6, 5, (0, 11), (11, 11))
    assert found.lower != found.lower_without
    assert found.learned is not None


def test_an_index_keeps_the_errors_of_both_kinds():
    trained, held_out = errors(20, 0.2, seed=0), errors(20, 0.05, seed=1)
    kept: Any = SimpleNamespace(
        trained_mask=torch.arange(40) < 20,
        base_losses=torch.cat([trained.with_adapter, held_out.with_adapter]),
        unadapted_losses=torch.cat([trained.without, held_out.without]),
    )
    assert membership_in(kept) == membership(trained, held_out)
    kept.trained_mask = torch.arange(40) < 36
    assert membership_in(kept) is None


def test_the_command_line_compares_errors(tmp_path: Path, tiny_checkpoint: Path, two_sets):
    trained, others = map(str, two_sets)
    asked = ["index", "check", trained, "--held-out", others, "--model", str(tiny_checkpoint)]
    by_itself = CliRunner().invoke(app, asked)
    assert by_itself.exit_code == 0, by_itself.output
    assert by_itself.stdout.startswith("errors     not stated no sign that they were trained on: their error is lower")
    with_lora = CliRunner().invoke(app, [*asked, "--lora", str(lora(tmp_path / "style.safetensors"))])
    assert "away by the adapter: AUC" in with_lora.stdout
    assert with_lora.stdout.startswith("pictures   not stated")
    with pytest.raises(InvalidRequest, match="nothing to compare with"):
        CliRunner().invoke(app, ["index", "check", trained], catch_exceptions=False)
