"""Training sets whose pictures lie in Parquet, Arrow or tar files are read, or refused by what is wrong and where."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from forwardinf.errors import InvalidRequest, MissingAsset
from forwardinf.examples.metadata import read_training_folder, training_images


def png(colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(content, "PNG")
    return content.getvalue()


RED, GREEN = ({"image": {"bytes": png(colour), "path": f"{colour}.png"}, "text": colour} for colour in ("red", "green"))


def parquet(path: Path, *rows: dict[str, Any], row_group_size: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
    return path


def arrow(folder: Path, *rows: dict[str, Any]) -> Path:
    """A folder as save_to_disk writes it, with a row in each of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{number:05}-of-{len(rows):05}.arrow" for number in range(len(rows))]
    for name, row in zip(names, rows, strict=True):
        table = pa.Table.from_pylist([row])
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def tar(path: Path, **files: bytes | str) -> Path:
    """A tar of files, in whose names `__` is a dot."""
    with tarfile.open(path, "w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            data = content if isinstance(content, bytes) else content.encode()
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


def captions(folder: Path) -> dict[str, str]:
    """By id; every picture is read again, as an index build does."""
    catalog = training_images(folder)
    catalog.verify()
    return {image.id: image.caption for image in catalog.images}


@pytest.mark.parametrize("row_group_size", [1, 2])
def test_pictures_in_parquet_are_read_and_are_those_of_their_rows(tmp_path: Path, row_group_size: int):
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", RED, GREEN, row_group_size=row_group_size)
    read = read_training_folder(tmp_path, decode=True)
    assert captions(tmp_path) == {"green.png": "green", "red.png": "red"}
    shown = [read.catalog.picture(image).getpixel((0, 0)) for image in read.catalog.images]
    assert shown == [(0, 128, 0), (255, 0, 0)]
    assert "2 are train by the name “train”" in read.described()


@pytest.mark.parametrize(
    "rows",
    [
        [{"image": png("red"), "caption": "red"}, {"image": png("green"), "caption": "green"}],
        [{"picture": png("red"), "caption": "red"}, {"picture": png("green"), "caption": "green"}],
        [RED | {"image": {"bytes": png(c), "path": None}, "text": c} for c in ("red", "green")],
        [RED | {"image": {"bytes": png(c), "path": "same.png"}, "text": c} for c in ("red", "green")],
        [RED | {"image": {"bytes": png(c), "path": f"/home/ada/{c}.png"}, "text": c} for c in ("red", "green")],
    ],
)
def test_pictures_without_a_name_of_their_own_are_named_by_file_and_row(tmp_path: Path, rows: list[dict[str, Any]]):
    parquet(tmp_path / "set.parquet", *rows)
    assert captions(tmp_path) == {"set/000000": "red", "set/000001": "green"}


def test_parquet_with_names_or_paths_is_read_as_any_metadata(tmp_path: Path):
    (tmp_path / "red.png").write_bytes(png("red"))
    parquet(tmp_path / "a" / "set.parquet", {"file_name": "red.png", "caption": "by path"})
    parquet(tmp_path / "b" / "set.parquet", {"file_name": "in.png", "image": png("green"), "caption": "inside"})
    assert captions(tmp_path) == {"in.png": "inside", "red.png": "by path"}
    parquet(tmp_path / "c" / "set.parquet", {"file_name": "./red.png", "caption": "again"})
    with pytest.raises(InvalidRequest, match=r"c/set\.parquet row 1 names “red\.png”, as a/set\.parquet row 1 does"):
        training_images(tmp_path)


def test_rows_of_other_splits_were_not_trained_on(tmp_path: Path):
    parquet(tmp_path / "train-0.parquet", RED)
    parquet(tmp_path / "validation-0.parquet", GREEN)
    assert {image.id: image.split for image in training_images(tmp_path).images} == {
        "green.png": "held_out",
        "red.png": "train",
    }
    assert "1 are held_out by the name “validation”" in read_training_folder(tmp_path).described()


def test_one_damaged_picture_of_parquet_is_skipped_with_its_row(tmp_path: Path):
    nothing = {"image": {"bytes": None, "path": "gone.png"}, "text": "gone"}
    parquet(tmp_path / "set.parquet", RED, GREEN | {"image": {"bytes": b"<html>", "path": "green.png"}}, nothing)
    read = read_training_folder(tmp_path, decode=True)
    assert [image.id for image in read.catalog.images] == ["red.png"]
    assert [told.partition("”")[0] for told in read.skipped] == ["row 2: “green.png", "row 3: “gone.png"]


@pytest.mark.parametrize(
    ("row", "refusal"),
    [
        ({"a": b"x", "b": b"y", "text": "t"}, r"several columns of bytes \(a, b\)"),
        ({"image": b"x", "words": "t"}, r"no key that gives captions \(row 1 has: words, file_name\)"),
        ({"image": b"x", "text": ["t"]}, "row 1 has a list of 1 as “text”"),
        ({"score": 1}, "no key that names files"),
    ],
)
def test_parquet_that_cannot_be_used_is_refused(tmp_path: Path, row: dict[str, Any], refusal: str):
    parquet(tmp_path / "set.parquet", row)
    with pytest.raises(InvalidRequest, match=refusal):
        training_images(tmp_path)


def test_parquet_cut_short_is_refused_and_a_column_of_bytes_may_be_named_image(tmp_path: Path):
    whole = parquet(tmp_path / "set.parquet", {"image": png("red"), "embedding": b"x", "text": "red"})
    assert list(captions(tmp_path).values()) == ["red"]
    whole.write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(InvalidRequest, match=r"“set\.parquet” cannot be read as Parquet"):
        training_images(tmp_path)


def test_a_saved_dataset_is_read_with_its_splits(tmp_path: Path):
    assert captions(arrow(tmp_path / "one", RED, GREEN)) == {"green.png": "green", "red.png": "red"}
    for split, row in (("train", RED), ("test", GREEN)):
        arrow(tmp_path / "both" / split, row)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert [image.split for image in training_images(tmp_path / "both").images] == ["held_out", "train"]
    plain = [{"image": png(colour), "text": colour} for colour in ("red", "green")]
    assert list(captions(arrow(tmp_path / "plain", *plain)).values()) == ["red", "green"]


def test_a_saved_dataset_that_is_not_whole_is_refused(tmp_path: Path):
    data = next(arrow(tmp_path / "one", RED).glob("*.arrow"))
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(InvalidRequest, match=r"“one/data-00000-of-00001\.arrow” cannot be read as an Arrow stream"):
        training_images(tmp_path / "one")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(InvalidRequest, match=r"lists no data files"):
        training_images(tmp_path / "one")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(InvalidRequest, match=r"train/state\.json” cannot be opened"):
        training_images(tmp_path)


def test_a_webdataset_is_read_over_its_shards(tmp_path: Path):
    tar(tmp_path / "00000.tar", a__png=png("red"), a__txt="red\n", a__json='{"author": "Ada", "key": "a"}')
    tar(tmp_path / "00001.tar", a__PNG=png("green"), a__txt="green", b__cls="7")
    assert captions(tmp_path) == {"00000/a.png": "red", "00001/a.PNG": "green"}
    read = read_training_folder(tmp_path, decode=True)
    assert [image.creator for image in read.catalog.images] == ["Ada", "unknown"]
    assert "not read: key" in read.described()
    assert "1 examples have no picture" in read.described()
    assert read.catalog.picture(read.catalog.images[0]).getpixel((0, 0)) == (255, 0, 0)


def test_captions_of_a_webdataset_may_be_in_its_json(tmp_path: Path):
    path = tar(tmp_path / "set.tar", a__json='{"caption": "red", "file_name": "x"}', a__png=png("red"))
    assert captions(tmp_path) == {"set/a.png": "red"}
    whole = path.read_bytes()
    for end in (300, 1300, 1600):
        path.write_bytes(whole[:end])
        with pytest.raises(InvalidRequest, match=r"“set\.tar” cannot be read as a tar: it is damaged or cut short"):
            training_images(tmp_path)


@pytest.mark.parametrize(
    ("files", "refusal"),
    [
        ({"a__png": b"x", "a__jpg": b"x"}, r"“a\.jpg” and “a\.png”"),
        ({"a__png": b"x", "a__json": "[1]"}, r"set\.tar/a\.json” is a list of 1, not an object"),
        ({"a__png": b"x", "a__txt": b"\xe9"}, r"set\.tar/a\.txt” line 1 is not UTF-8"),
        ({"a__png": b"x", "a__txt": "x" * 2_000_000}, "too many for a caption"),
        ({"../../a__png": b"x", "../../a__txt": "x"}, "which is not a file below the folder"),
    ],
)
def test_a_webdataset_that_cannot_be_used_is_refused(tmp_path: Path, files: dict[str, bytes | str], refusal: str):
    tar(tmp_path / "set.tar", **files)
    with pytest.raises(InvalidRequest, match=refusal):
        training_images(tmp_path)


def test_a_compressed_tar_is_told_to_be_unpacked(tmp_path: Path):
    (tmp_path / "set.tar.gz").write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=r"“set\.tar\.gz” is compressed"):
        training_images(tmp_path)


def test_a_data_set_in_the_hubs_cache_is_read_by_what_its_ref_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cached = tmp_path / "datasets--ada--set"
    blob = parquet(cached / "blobs" / "0123", RED)
    data = cached / "snapshots" / "abcdef" / "data"
    data.mkdir(parents=True)
    (data / "train-0.parquet").symlink_to(blob)
    (cached / "refs").mkdir()
    with pytest.raises(InvalidRequest, match=r"no snapshot for refs/main; there are: abcdef"):
        training_images(cached)
    (cached / "refs" / "main").write_text("abcdef")
    assert captions(cached) == captions(cached / "snapshots" / "abcdef") == {"red.png": "red"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cached.parent))
    name = cached.name.removeprefix("datasets--").replace("--", "/")
    assert captions(Path(name)) == {"red.png": "red"}
    with pytest.raises(MissingAsset, match="hf download ada/none --repo-type dataset"):
        captions(Path("ada/none"))
    with pytest.raises(MissingAsset, match="There is no folder “none”"):
        captions(Path("../ada/none"))
    read = read_training_folder(cached)
    assert read.described().startswith("datasets--ada--set: 1 images by data/train-0.parquet\n  keys:")
    assert read.catalog.images[0].collection == "datasets--ada--set"


def test_a_name_that_leads_out_of_a_tar_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "set.tar", "w") as packed:
        member = tarfile.TarInfo("../../../etc/red.png")
        member.size = len(png("red"))
        packed.addfile(member, io.BytesIO(png("red")))
        member = tarfile.TarInfo("../../../etc/red.txt")
        packed.addfile(member, io.BytesIO(b""))
    with pytest.raises(InvalidRequest, match="which is not a file below the folder"):
        training_images(tmp_path)
