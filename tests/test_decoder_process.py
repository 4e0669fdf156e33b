"""The child process that decodes a picture: its answers, its limits, and who waits for whom."""

from __future__ import annotations

import hashlib
import json
import signal
import struct
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forwardinf.errors import UnreadablePicture
from forwardinf.examples.decoding import child, read_picture, sandbox
from forwardinf.examples.decoding.slots import DecoderSlots
from picture_files import file_of, gradient, here, zeros_png

SOON = 30.0  # seconds after which a test that waits for another thread has failed


def test_an_ordinary_picture_keeps_its_pixels_and_its_hash() -> None:
    data = file_of(gradient())
    picture = read_picture(data)
    assert picture.rgb.mode == "RGB"
    assert np.array_equal(picture.rgb, gradient())
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    assert (picture.format, picture.original_size, picture.original_mode) == ("PNG", (24, 16), "RGB")
    assert picture.notes == ()


def test_the_child_answers_as_decoding_here_does() -> None:
    data = file_of(Image.new("I;16", (20, 10), 32896), "TIFF")
    picture, decoded = read_picture(data), here(data)
    assert np.array_equal(picture.rgb, decoded.rgb)
    assert (picture.original_size, picture.original_mode) == (decoded.size, decoded.mode) == ((20, 10), "I;16")
    assert picture.notes == decoded.notes


def test_a_refusal_names_the_file_without_its_folder_or_control_characters() -> None:
    with pytest.raises(
        UnreadablePicture, match=r"^“cat\.png” is PNG, but ends before the picture is complete\. Download"
    ):
        read_picture(file_of(gradient())[:60], name="/home/someone/ca\x1bt.png")
    with pytest.raises(UnreadablePicture, match=r"^“x{60}…x{11}\.png” is empty"):
        read_picture(b"", name="x" * 500 + ".png")


def test_the_child_imports_neither_numpy_nor_torch_for_an_ordinary_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    command = sandbox._command(sandbox.DECODER, "PNG", ())
    start = command.index("-c") + 1
    command[start] += "; assert not {'torch', 'gradio', 'numpy', 'site'} & set(sys.modules), sorted(sys.modules)"
    monkeypatch.setattr(sandbox, "_command", lambda *_: command)
    read_picture(file_of(gradient()))


def child_that(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_command", lambda *_: [sys.executable, "-I", "-S", "-c", code])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", rf"its decoder was stopped \(signal {int(signal.SIGKILL)}\)"),
        ("import os; os.kill(os.getpid(), 11)", r"its decoder was stopped \(signal 11\)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "it takes more than 4 seconds of computing time"),
        ("raise SystemExit(3)", "its decoder failed"),
        ("", "gave no usable answer"),
        ("print('[' * 60000)", "gave no usable answer"),
        ("print('7')", "gave no usable answer"),
        ("""print('{"rgb_size": [9, 9], "size": [9, 9], "mode": "RGB", "notes": []}\\nabc')""", "no usable answer"),
        ("""print('{"rgb_size": [90000, 90000], "size": [9, 9], "mode": "RGB", "notes": []}')""", "no usable answer"),
        ("""print('{"refused": "' + 'x' * 99999 + '"}')""", "x{500}$"),
    ],
)
def test_a_child_that_dies_or_talks_nonsense_is_a_named_refusal(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    child_that(code, monkeypatch)
    with pytest.raises(UnreadablePicture, match=message):
        read_picture(file_of(gradient()))


def test_a_child_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    child_that("import time; time.sleep(60)", monkeypatch)
    monkeypatch.setattr(sandbox, "TIMEOUT", 0.3)
    with pytest.raises(UnreadablePicture, match=r"took longer than 0\.3 seconds to decode"):
        read_picture(file_of(gradient()))


def test_the_child_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    child_that("import os, json; print(json.dumps({'refused': ' '.join(os.environ)}))", monkeypatch)
    with pytest.raises(UnreadablePicture) as caught:
        read_picture(file_of(gradient()))
    assert "HF_TOKEN" not in str(caught.value)


def test_what_the_decoder_prints_is_a_note() -> None:
    """libtiff prints what it works around."""
    data = bytearray(file_of(gradient(), "TIFF", compression="tiff_lzw", tiffinfo={274: 2}))
    data[data.index(struct.pack("<HHI", 274, 3, 1)) + 8] = 16
    warning = 'it may be damaged; its decoder warns: _TIFFVSetField: Bad value 16 for "Orientation" tag.'
    assert read_picture(bytes(data)).notes == (warning,)


# Limits


def real_child_with(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real child process, after `code`, in which `child` is its module."""
    command = sandbox._command(sandbox.DECODER, "PNG", ())
    start = command.index("-c") + 1
    before = f"\nimport {child.__name__} as child\n{code}\nmain("
    command[start] = command[start].replace("; main(", before)
    monkeypatch.setattr(sandbox, "_command", lambda *_: command)


def child_that_refuses_with(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real child process, in which decoding gives `expression` as its refusal."""
    code = f"""
import json, os, resource
def decode(data, format): raise child.UnreadablePicture(json.dumps({expression}))
child.decode = decode"""
    real_child_with(code, monkeypatch)


def refusal() -> object:
    with pytest.raises(UnreadablePicture) as caught:
        read_picture(file_of(gradient()))
    return json.loads(str(caught.value).removeprefix("“picture” "))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("RLIMIT_CPU", [4, 5]),
        ("RLIMIT_FSIZE", [child.MAX_ANSWER] * 2),
        ("RLIMIT_CORE", [0, 0]),
        ("RLIMIT_AS", [3 << 29] * 2),
    ],
)
def test_the_child_decodes_under_limits(limit: str, expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    child_that_refuses_with(f"resource.getrlimit(resource.{limit})", monkeypatch)
    assert refusal() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_a_child_that_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real_child_with("child.MEMORY = 1 << 27", monkeypatch)
    with pytest.raises(UnreadablePicture, match="needs too much memory to decode"):
        read_picture(zeros_png(6000, 6000))


def test_a_child_that_computes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    real_child_with("child.CPU_SECONDS = 1; child.decode = lambda *_: 1 in iter(int, 1)", monkeypatch)
    with pytest.raises(UnreadablePicture, match="it takes more than 4 seconds of computing time"):
        read_picture(file_of(gradient()))


def test_the_child_needs_no_home_and_sees_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert read_picture(file_of(gradient())).notes == ()
    child_that_refuses_with("sorted(os.environ)", monkeypatch)
    assert set(refusal()) <= {"LC_CTYPE", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


@pytest.mark.parametrize("code", ["", "raise SystemExit(3)", "import time; time.sleep(60)", None])
def test_no_temporary_file_is_left(code: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sandbox, "TIMEOUT", 0.3 if code else sandbox.TIMEOUT)
    if code is None:
        read_picture(file_of(gradient()))
    else:
        child_that(code, monkeypatch)
        with pytest.raises(UnreadablePicture):
            read_picture(file_of(gradient()))
    assert list(tmp_path.iterdir()) == []


# Who waits for whom


class Arrivals(set[tuple[int, int]]):
    """Those who wait, with a signal at each arrival, which is given under the lock of the slots."""

    def __init__(self) -> None:
        self.signal = threading.Semaphore(0)

    def add(self, ticket: tuple[int, int]) -> None:
        super().add(ticket)
        self.signal.release()


def test_at_most_two_pictures_are_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = Arrivals()
    monkeypatch.setattr(sandbox.SLOTS, "_waiting", arrivals)
    entered, go_on = threading.Semaphore(0), threading.Event()

    def run_child(*_: object) -> None:
        entered.release()
        go_on.wait(SOON)

    def read() -> None:
        with pytest.raises(UnreadablePicture, match="no usable answer"):
            read_picture(file_of(gradient()))

    monkeypatch.setattr(sandbox, "_run_child", run_child)
    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        assert all(arrivals.signal.acquire(timeout=SOON) for _ in readers)
        assert all(entered.acquire(timeout=SOON) for _ in range(2))
        with sandbox.SLOTS._changed:
            assert len(arrivals) == 2
            assert not entered.acquire(blocking=False)
    finally:
        go_on.set()
        for reader in readers:
            reader.join(SOON)
    assert all(entered.acquire(blocking=False) for _ in range(2))


def test_the_smallest_file_goes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, arrivals = DecoderSlots(1), Arrivals()
    monkeypatch.setattr(slots, "_waiting", arrivals)
    order: list[int] = []

    def hold(size: int) -> None:
        with slots.one(size, SOON):
            order.append(size)

    with slots.one(1, SOON):
        waiting = [threading.Thread(target=hold, args=(size,)) for size in (30_000_000, 430_000, 526, 20_000)]
        for thread in waiting:
            thread.start()
        assert all(arrivals.signal.acquire(timeout=SOON) for _ in range(1 + len(waiting)))
    for thread in waiting:
        thread.join(SOON)
    assert order == [526, 20_000, 430_000, 30_000_000]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = DecoderSlots(1)
    monkeypatch.setattr(sandbox, "SLOTS", slots)
    monkeypatch.setattr(sandbox, "MAX_WAIT", 0.0)
    with slots.one(10_000_000, SOON), pytest.raises(UnreadablePicture, match="too many others are waiting"):
        read_picture(file_of(gradient()))
    assert read_picture(file_of(gradient())).notes == ()  # and the slot is free again


def test_the_smallest_file_outwaits_the_slowest_decoders() -> None:
    assert sandbox.MAX_WAIT > sandbox.TIMEOUT
