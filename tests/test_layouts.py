"""Training sets as people have them are read, or refused by what is wrong with them and where."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import ASSETS
from forwardinf.cli.main import app
from forwardinf.errors import InvalidRequest, MissingAsset
from forwardinf.examples.layouts.keys import parse_choices
from forwardinf.examples.layouts.registry import layouts
from forwardinf.examples.metadata import read_training_folder, training_images
from forwardinf.index.info import INFO, IndexInfo

Fields = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which red.png, green.png and blue.png lie."""
    made = tmp_path / "set"
    for colour in ("red", "green", "blue"):
        draw(made / f"{colour}.png", colour)
    return made


def draw(path: Path, colour: str = "red") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).save(path)


def write_rows(folder: Path, *rows: Fields | str, encoding: str = "utf-8", end: str = "\n") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "metadata.jsonl").write_bytes((end.join(lines) + end).encode(encoding))
    return folder


def captions(folder: Path, keys: dict[str, str] | None = None) -> dict[str, str]:
    return {image.id: image.caption for image in training_images(folder, keys).images}


RED, GREEN = {"file_name": "red.png", "text": "red"}, {"file_name": "green.png", "text": "green"}


@pytest.mark.parametrize("file", ["file_name", "file", "filename", "image", "image_path", "path"])
@pytest.mark.parametrize("text", ["text", "caption", "prompt"])
def test_the_keys_that_people_use_are_read(folder: Path, file: str, text: str):
    assert captions(write_rows(folder, {file: "red.png", text: "a red one"})) == {"red.png": "a red one"}


def test_credits_are_read_by_either_spelling(folder: Path):
    ada = {"license": "CC0-1.0", "license_url": "https://x/y", "artist": "Ada", "source": "s", "url": "https://x"}
    (image,) = training_images(write_rows(folder, RED | ada)).images
    assert (image.creator, image.licence, image.licence_url) == ("Ada", "CC0-1.0", "https://x/y")
    assert (image.source_package, image.source_url) == ("s", "https://x")


def test_keys_are_shown_and_what_is_not_read_is_named_once(folder: Path):
    rows = [{"image": f"{c}.png", "caption": c, "score": 1, "author": "Ada"} for c in ("red", "green")]
    shown = read_training_folder(write_rows(folder, *rows)).described()
    assert "file_name from “image”, text from “caption”, creator from “author”; not read: score" in shown
    assert shown.count("score") == 1
    assert "credited" not in shown


@pytest.mark.parametrize("row", [RED, RED | {"creator": None, "licence": ""}])
def test_a_set_without_any_credit_says_so(folder: Path, row: Fields):
    assert "matches cannot be credited" in read_training_folder(write_rows(folder, row)).described()


def test_keys_can_be_chosen(folder: Path):
    write_rows(folder, {"image": "red.png", "text": "short", "long": "a long one", "n": "7"})
    assert captions(folder, parse_choices(["text=long"])) == {"red.png": "a long one"}
    assert captions(folder, parse_choices(["text="])) == {"red.png": ""}
    assert training_images(folder, {"repeats": "n"}).images[0].repeats == 7
    with pytest.raises(InvalidRequest, match=r"has no key “tags” for text \(line 1 has: image, text, long, n\)"):
        training_images(folder, {"text": "tags"})


@pytest.mark.parametrize("wrong", [["title=x"], ["text"], ["text=a", "text=b"]])
def test_a_choice_of_keys_that_cannot_be_is_refused(wrong: list[str]):
    with pytest.raises(InvalidRequest, match=r"FIELD=KEY|given twice"):
        parse_choices(wrong)


@pytest.mark.parametrize(
    ("rows", "refusal"),
    [
        ([{"text": "x", "size": 3}], r"no key that names files \(line 1 has: text, size\)"),
        ([{"file_name": "red.png", "words": "x"}], r"no key that gives captions \(line 1 has: file_name, words\)"),
        ([RED, {"file_name": "green.png", "caption": "g"}], "line 2 has “caption” where other rows have “text”"),
        ([RED, {"text": "no file"}], "line 2 names no file"),
        ([RED | {"text": ["a", "b"]}], "line 1 has a list of 2 as “text”.* Write one text"),
        ([RED | {"text": {"en": "a"}}], "line 1 has an object as “text”"),
        ([RED | {"text": 5}], "line 1 has a number as “text”"),
        ([RED | {"creator": ["Ada", "Bob"]}], "line 1 has a list of 2 as “creator”"),
        ([RED | {"licence": True}], "line 1 has true or false as “licence”"),
        ([RED | {"repeats": 0}], "line 1 has “0” repeats"),
        ([RED | {"split": "test"}], "line 1 has the split “test”"),
        (['{"file_name": "red.png", "text": "\\ud800"}'], "half a character"),
        (['{"file_name": "red.png", "text": "a", "text": "b"}'], "line 1 has the key “text” twice"),
        (["[" * 100_000], "line 1 is not JSON"),
        (['{"file_name": "red.png", "text": "a"},'], "line 1 is not JSON: Extra data, at column"),
        (["[", json.dumps(RED), "]"], "one JSON list, not an object a line. Name it metadata.json"),
        (["3"], "line 1 is a number, not an object"),
        ([""], "names no image"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_line(folder: Path, rows: list[Fields | str], refusal: str):
    with pytest.raises(InvalidRequest, match=refusal):
        training_images(write_rows(folder, *rows))


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_is_no_caption_and_counted(folder: Path, nothing: str | None):
    write_rows(folder, RED, GREEN | {"text": nothing, "creator": None})
    assert captions(folder) == {"green.png": "", "red.png": "red"}
    assert training_images(folder).by_id["green.png"].creator == "unknown"
    assert "1 without a caption" in read_training_folder(folder).described()


@pytest.mark.parametrize("again", ["red.png", "./red.png", "sub/../red.png", "ABSOLUTE/red.png"])
def test_a_second_row_for_a_picture_is_refused_with_both_lines(folder: Path, again: str):
    other = {"file_name": again.replace("ABSOLUTE", str(folder.resolve())), "text": "other"}
    with pytest.raises(InvalidRequest, match=r"line 3 names “red\.png”, as line 1 does"):
        training_images(write_rows(folder, RED, GREEN, other))


def test_an_id_is_the_path_below_the_folder_wherever_it_lies(folder: Path):
    write_rows(folder, {"file_name": str(folder.resolve() / "red.png"), "text": "red"})
    assert captions(folder) == {"red.png": "red"}


@pytest.mark.parametrize("outside", ["../red.png", "/etc/red.png", "a/../../red.png", ".", "..", "\0"])
def test_a_name_outside_of_the_folder_is_refused_without_its_path(folder: Path, outside: str):
    with pytest.raises(InvalidRequest, match=r"not a file below the folder|names no file") as refused:
        training_images(write_rows(folder, {"file_name": outside, "text": "x"}))
    assert "/etc" not in str(refused.value)


@pytest.mark.parametrize(
    ("there", "named", "why"),
    [
        ("A.PNG", "a.png", "“A.PNG” is, upper and lower case differing"),
        ("img/a.png", "IMG/a.png", "“img/a.png” is, upper and lower case"),
        (unicodedata.normalize("NFD", "ä.png"), unicodedata.normalize("NFC", "ä.png"), "accents encoded otherwise"),
        ("img/a.png", "img\\a.png", "“img/a.png” is: write /"),
        ("a.png", "a", "“a.png” is"),
        ("a.png", "train/a.png", "“a.png” is: names start below the folder"),
        ("a.png", "b.png", "“b.png” is not there"),
        ("b.png/a.png", "b.png", "“b.png” is a folder"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_the_one_that_was_meant(
    tmp_path: Path, there: str, named: str, why: str
):
    draw(tmp_path / there)
    with pytest.raises(InvalidRequest, match=rf"line 1.*{why}"):
        training_images(write_rows(tmp_path, {"file_name": named, "text": "x"}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_utf8_is_read_and_only_a_line_feed_ends_a_line(folder: Path, encoding: str, end: str):
    caption = "café\u2028pear\x85apple"
    write_rows(folder, RED | {"text": caption}, GREEN, encoding=encoding, end=end)
    assert captions(folder) == {"green.png": "green", "red.png": caption}


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("latin-1", "line 2 is not UTF-8 but perhaps Latin-1"), ("utf-16", "is UTF-16"), ("utf-16-le", "is UTF-16")],
)
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.json", "metadata.csv"])
def test_another_encoding_is_named(folder: Path, name: str, encoding: str, named: str):
    (folder / name).write_bytes('{"file_name": "red.png",\n "text": "café"}'.encode(encoding))
    with pytest.raises(InvalidRequest, match=named):
        training_images(folder)


@pytest.mark.parametrize(
    "content",
    [
        [RED, GREEN],
        {"red.png": "red", "green.png": "green"},
        {"red.png": {"caption": "red"}, "green.png": {"caption": "green"}},
        {"red.png": {"caption": "red", "image": "red.png"}, "green.png": {"caption": "green"}},
    ],
)
def test_one_json_file_is_read(folder: Path, content: object):
    (folder / "metadata.json").write_text(json.dumps(content))
    assert captions(folder) == {"green.png": "green", "red.png": "red"}


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        ('{"red.png": "a", "red.png": "b"}', "the key “red.png” twice"),
        ('[{"file_name": "red.png"', "line 1|column"),
        ('{"images": [1, 2]}', "entry “images” is a list of 2"),
        ('{"red.png": {"path": "green.png", "text": "x"}}', "names another file as “path”"),
        ('["red.png"]', "entry 1 is a text"),
        ("5", "is a number, not a list of objects"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_refused(folder: Path, content: str, refusal: str):
    (folder / "metadata.json").write_text(content)
    with pytest.raises(InvalidRequest, match=refusal):
        training_images(folder)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_file_is_read(folder: Path, delimiter: str):
    lines = ["file_name,caption,creator", 'red.png,"a ""red"" one\nof two lines",Ada', "", "green.png,,"]
    content = "\r\n".join(lines).replace(",", delimiter)
    (folder / "metadata.csv").write_text(content, encoding="utf-8-sig", newline="")
    assert captions(folder) == {"green.png": "", "red.png": 'a "red" one\nof two lines'}
    assert [image.creator for image in training_images(folder).images] == ["unknown", "Ada"]


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        ('file_name,text\nred.png,"a\nb"\ngreen.png,a, b\n', "line 4 has 3 values for 2 keys. Put quotes"),
        ("file_name,text,text\nred.png,a,b\n", "key “text” twice"),
        ('file_name,text\nred.png,"a\n', "is not CSV"),
        ('file_name,text\nred.png,"a\nb"\nred.png,c\n', "line 4 names “red.png”, as line 2 does"),
        ("file_name,text\n", "names no image"),
        ("", "names no image"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_refused_by_line(folder: Path, content: str, refusal: str):
    (folder / "metadata.csv").write_text(content)
    with pytest.raises(InvalidRequest, match=refusal):
        training_images(folder)


def test_a_folder_that_no_layout_knows_is_told_what_would_be(folder: Path):
    with pytest.raises(MissingAsset) as refused:
        training_images(folder)
    assert all(layout.NAME in str(refused.value) for layout in layouts())
    (folder / "train").mkdir()
    (folder / "train" / "metadata.jsonl").touch()
    with pytest.raises(MissingAsset, match="“train” has metadata: name that one"):
        training_images(folder)
    with pytest.raises(MissingAsset, match="no folder “nowhere”"):
        training_images(folder / "nowhere")


def test_links_of_a_folder_are_followed(folder: Path):
    store = folder.parent / "store"
    draw(store / "blob.png", "red")
    (folder / "red.png").unlink()
    (folder / "red.png").symlink_to(store / "blob.png")
    assert captions(write_rows(folder, RED)) == {"red.png": "red"}
    (store / "blob.png").unlink()
    with pytest.raises(InvalidRequest, match=r"“red\.png” is a link to a file that is not there"):
        training_images(folder)


def caption(folder: Path, **captions: str) -> Path:
    for name, text in captions.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def test_captions_beside_the_pictures_are_read_also_in_folders_below(folder: Path):
    caption(folder, red="a red one\r\n", green="\ufeffcafé")
    for name in ("one/red.png", "one/deep/red.PNG", ".hidden/red.png", "__MACOSX/red.png"):
        draw(folder / "x.png")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "x.png").rename(folder / name)
        caption((folder / name).parent, red=f"in {name}")
    (folder / "one" / "red.caption").write_text("the .txt goes first")
    (folder / "blue.caption").write_text("blue")
    assert captions(folder) == {
        "blue.png": "blue", "green.png": "café", "one/deep/red.PNG": "in one/deep/red.PNG", "one/red.png":
        "in one/red.png", "red.png": "a red one",
    }  # fmt: skip
    assert {image.repeats for image in training_images(folder).images} == {1}


def test_what_captions_leave_open_is_said(folder: Path):
    caption(folder, red="first\nsecond", LICENSE="MIT", zebra="a picture of another kind")
    (folder / "zebra.heic").touch()
    shown = read_training_folder(folder).described()
    assert "1 captions have several lines, of which the first is read" in shown
    assert "2 captions are beside no picture" in shown
    assert "“LICENSE.txt” and others" in shown
    assert "2 without a caption" in shown
    assert captions(folder)["red.png"] == "first"


def test_folders_named_by_repeats_are_shown_and_recorded(tmp_path: Path):
    for name in ("10_sks dog/a.png", "10_sks dog/b.png", "10_sks dog/sub/c.png", "1_dog/d.png", "e.png", "f/2_x/g.png"):
        draw(tmp_path / name)
    caption(tmp_path / "10_sks dog", a="a dog")
    read = read_training_folder(tmp_path)
    repeats = {image.id: (image.repeats, image.caption) for image in read.catalog.images}
    assert repeats == {
        "10_sks dog/a.png": (10, "a dog"), "10_sks dog/b.png": (10, "sks dog"), "10_sks dog/sub/c.png": (10, "sks dog"),
        "1_dog/d.png": (1, "dog"), "e.png": (1, ""), "f/2_x/g.png": (1, ""),
    }  # fmt: skip
    assert "repeats by the names of folders: 3 in “10_sks dog”, 1 in “1_dog”" in read.described()
    assert "2 in “10_sks dog” without a caption take the folder's: “sks dog”" in read.described()


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        ("é".encode("latin-1"), r"“set/red\.txt” line 1 is not UTF-8"),
        ("é".encode("utf-16"), r"“set/red\.txt” is UTF-16"),
    ],
)
def test_a_caption_in_another_encoding_is_named(folder: Path, content: bytes, refusal: str):
    (folder / "red.txt").write_bytes(content)
    with pytest.raises(InvalidRequest, match=refusal):
        training_images(folder)


def test_linked_folders_are_read_and_loops_end(folder: Path):
    draw(folder.parent / "store" / "a.png")
    (folder / "10_dog").symlink_to(folder.parent / "store")
    (folder.parent / "store" / "up").symlink_to(folder)
    assert captions(folder) == {"10_dog/a.png": "dog", "blue.png": "", "green.png": "", "red.png": ""}


def test_metadata_goes_before_captions(folder: Path):
    assert captions(write_rows(caption(folder, green="beside"), RED)) == {"red.png": "red"}


def test_a_folder_that_is_repeated_no_times_is_refused(tmp_path: Path):
    draw(tmp_path / "0_dog" / "a.png")
    with pytest.raises(InvalidRequest, match=r"0_dog/a\.png” has “0” repeats"):
        training_images(tmp_path)


def damage(folder: Path) -> Path:
    """A folder whose rows name a sound picture, one cut short, one that is a web page and one that is not there."""
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    noise.save(folder / "green.png")
    (folder / "green.png").write_bytes((folder / "green.png").read_bytes()[:2000])
    (folder / "blue.png").write_text("<html>404</html>")
    gone = {"file_name": "gone.png", "text": "x"}
    return write_rows(folder, RED, GREEN, {"file_name": "blue.png", "text": "blue"}, gone)


def test_pictures_that_cannot_be_read_are_skipped_and_listed_by_row(folder: Path):
    read = read_training_folder(damage(folder), decode=True)
    assert ([image.id for image in read.catalog.images], read.catalog.skipped) == (["red.png"], 3)
    cut, page, gone = read.skipped
    assert cut.startswith("line 2: “green.png” is PNG, but ends before")
    assert page.startswith("line 3: “blue.png” is a web page")
    assert gone == "line 4: “gone.png” is not there."
    assert all(f"skipped {picture}" in read.described() for picture in read.skipped)


def test_without_decoding_only_headers_are_looked_at(folder: Path):
    assert captions(damage(folder)) == {"green.png": "green", "red.png": "red"}


def test_strict_refuses_a_folder_and_names_what_cannot_be_read(folder: Path):
    with pytest.raises(InvalidRequest, match=r"3 of 4 pictures cannot be read: line 2.*line 3.*line 4.*--strict"):
        read_training_folder(damage(folder), decode=True, strict=True)
    rows = [{"file_name": f"{n}.png", "text": ""} for n in range(14)]
    with pytest.raises(InvalidRequest, match=r"line 11: .* … and 4 others"):
        read_training_folder(write_rows(folder, RED, *rows), strict=True)


def test_an_index_says_how_many_were_skipped_and_an_older_one_stays_as_it_is():
    written = (ASSETS / "emoji-index" / INFO).read_bytes()
    info = IndexInfo.parse("emoji-index", written)
    assert (info.skipped, info.to_bytes()) == (0, written)
    assert IndexInfo.parse("other", replace(info, skipped=3).to_bytes()).skipped == 3


def test_a_folder_without_any_readable_picture_is_refused(folder: Path):
    (folder / "red.png").unlink()
    with pytest.raises(InvalidRequest, match=r"none of the pictures can be read: line 1: “red\.png” is not there"):
        training_images(write_rows(folder, RED))


def test_reading_is_told_as_it_goes(folder: Path):
    told: list[tuple[int, int]] = []
    read_training_folder(write_rows(folder, RED, GREEN), on_progress=lambda *done: told.append(done))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_the_command_line_skips_or_refuses(folder: Path):
    shown = build(damage(folder))
    assert "set: 1 images by metadata.jsonl" in shown
    assert "skipped line 2: “green.png” is PNG, but ends" in shown
    assert "3 of 4 pictures cannot be read" in build(folder, "--strict")


def build(folder: Path, *options: str) -> str:
    """What `index build` says of a folder before it finds that there is no model."""
    out = folder.parent / "index"
    done = CliRunner().invoke(app, ["index", "build", str(folder), "--out", str(out), "--model", str(folder), *options])
    assert done.exit_code
    return " ".join(f"{done.stderr} {done.exception}".split())


def test_the_command_line_shows_the_keys_and_takes_others(folder: Path):
    write_rows(folder, {"image": "red.png", "caption": "red", "long": "a long one"})
    assert "set: 1 images by metadata.jsonl keys: file_name from “image”, text from “caption”; not read" in build(
        folder
    )
    assert "text from “long”; not read: caption" in build(folder, "--key", "text=long")
    assert "no FIELD=KEY" in build(folder, "--key", "caption")


def test_keys_are_refused_where_they_would_not_be_read(folder: Path):
    training_images(write_rows(folder, RED)).save()
    assert captions(folder) == {"red.png": "red"}
    with pytest.raises(InvalidRequest, match="leave --key out"):
        training_images(folder, {"text": "long"})
