"""Visitors' pictures: known by their content, apart from each other's, and gone with their visitor."""

import hashlib
from pathlib import Path

import pytest

from forwardinf.errors import InvalidRequest
from forwardinf.web.pictures import Pictures

HOSTILE = ["", "../../etc", "a/b", "\0", "\ud800", "x" * 10_000]


def test_pictures_of_one_name_are_told_apart_by_their_bytes(tmp_path: Path):
    pictures = Pictures(tmp_path)
    first, second = (pictures.keep("ada", data, "picture-seed-0.png") for data in (b"apple", b"pear"))
    assert first == hashlib.sha256(b"apple").hexdigest()
    assert pictures.read("ada", first).data == b"apple"
    assert pictures.read("ada", second).data == b"pear"


def test_a_visitor_cannot_read_another_ones_picture_or_rename_it(tmp_path: Path):
    pictures = Pictures(tmp_path)
    sha256 = pictures.keep("ada", b"apple", "apple.png")
    with pytest.raises(InvalidRequest, match="no longer kept"):
        pictures.read("bob", sha256)
    pictures.keep("bob", b"apple", "stolen.png")
    assert pictures.read("ada", sha256).name == "apple.png"


def test_pictures_go_with_their_visitor(tmp_path: Path):
    pictures = Pictures(tmp_path)
    kept = {visitor: pictures.keep(visitor, b"apple", "apple.png") for visitor in ("ada", "bob")}
    pictures.forget("ada")
    pictures.forget("never seen")
    with pytest.raises(InvalidRequest, match="Give it again"):
        pictures.read("ada", kept["ada"])
    assert pictures.read("bob", kept["bob"]).data == b"apple"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("visitor", [*HOSTILE, None])
def test_no_name_of_a_visitor_leads_out_of_the_folder(tmp_path: Path, visitor: str | None):
    inside = tmp_path / "pictures"
    pictures = Pictures(inside)
    sha256 = pictures.keep(visitor, b"apple", "../apple.png")
    assert pictures.read(visitor, sha256).data == b"apple"
    assert [path.parent.parent for path in tmp_path.rglob("*") if path.is_file()] == [inside]


@pytest.mark.parametrize("sha256", ["0" * 64, "../secret", "\0"])
def test_a_picture_that_was_never_given_is_not_found(tmp_path: Path, sha256: str):
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(InvalidRequest, match="no longer kept"):
        Pictures(tmp_path).read("ada", sha256)


@pytest.mark.parametrize("nothing", [None, ""])
def test_where_there_is_no_picture_yet_the_visitor_is_told_what_to_do(tmp_path: Path, nothing: str | None):
    with pytest.raises(InvalidRequest, match="no picture yet"):
        Pictures(tmp_path).read("ada", nothing)
