"""Trained for a while on 32 images, a tiny flow and a tiny unconditional model find them again, by the command line.

The other families are measured by `make bench-families`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

import families
from forwardinf.attribution.attributor import Attributor
from forwardinf.cli.main import main
from forwardinf.examples.decoding import to_square
from forwardinf.examples.metadata import training_images
from forwardinf.index.about_file import read_about
from forwardinf.index.store import Index
from forwardinf.methods.forward_inf import ForwardInf
from forwardinf.types import ModelSpec
from forwardinf.web.index_view import about_index
from tiny_families import SIDE, tiny

STEPS, ASKED = 300, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 pictures with captions, as people have them."""
    folder, source = tmp_path_factory.mktemp("emoji"), families.pictures(families.IMAGES)
    with (folder / "metadata.jsonl").open("w") as lines:
        for number, image in enumerate(source.images):
            to_square(source.picture(image), SIDE).save(folder / f"{number:02}.png")
            lines.write(json.dumps({"file_name": f"{number:02}.png", "text": image.caption}) + "\n")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["forwardinf", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@pytest.mark.parametrize("family", ["z_image", "ddpm"])
def test_it_finds_what_it_was_trained_on(
    family: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    source = training_images(folder)
    tiny(family).save_pretrained(tmp_path / "untrained")
    first, last = families.trained(families.spec_of(tmp_path / "untrained"), source, STEPS, tmp_path / "model")
    assert last < 0.6 * first
    index, model = tmp_path / "index", ("--model", str(tmp_path / "model"))
    run(monkeypatch, "index", "build", str(folder), "--out", str(index), "--picture-size", str(SIDE), *model)
    built = Index.open(index)
    assert {"z_image": "Z-Image", "ddpm": "unconditional diffusion"}[family] in about_index(
        built, read_about(built.manifest)
    )
    prompt = () if family == "ddpm" else ("--prompt", source.images[9].caption)
    capsys.readouterr()
    run(monkeypatch, "attribute", str(folder / "09.png"), "--index", str(index), "--json", *prompt, *model)
    record = json.loads(capsys.readouterr().out)
    assert record["results"][0]["id"] == "09.png"
    assert record["query"]["fallback_caption"] is None
    drawn = tmp_path / "drawn.png"
    run(monkeypatch, "generate", "red apple", "--steps", "2", "-o", str(drawn), "--picture-size", str(SIDE), *model)
    assert Image.open(drawn).size == (SIDE, SIDE)
    assert ("unconditional: it reads no prompt" in capsys.readouterr().err) is (family == "ddpm")

    attributor = Attributor.load(built, ModelSpec(str(tmp_path / "model")))
    for method, most in ((ForwardInf(), ASKED - 1), (families.BY_LOSS, ASKED - 2)):
        ranks = families.ranks_of(attributor, source, source.images[:: len(source.images) // ASKED], method)
        assert sum(rank == 1 for rank in ranks) >= most, ranks
