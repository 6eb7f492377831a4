"""What may be downloaded, and logs as text."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_nas.dashboard.files import Refused, inside, listed, plain, search, tail


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "exp"
    (place / "trials" / "0" / "sub").mkdir(parents=True)
    (place / "trials" / "0" / "output.log").write_text("log")
    (place / "trials" / "0" / "sub" / "w.pt").write_text("weights")
    (tmp_path / "secret").write_text("secret")
    (place / "trials" / "0" / "link").symlink_to(tmp_path / "secret")
    (place / "trials" / "0" / "own").symlink_to(place / "trials" / "0" / "output.log")
    (place / "out").symlink_to(tmp_path)
    (place / ".hidden").write_text("hidden")
    os.mkfifo(place / "pipe")
    return place


def test_a_file_within_is_given(directory: Path) -> None:
    assert inside(directory, "trials/0/sub/w.pt").read_text() == "weights"


@pytest.mark.parametrize(
    "path",
    ["../secret", "trials/../../secret", "/etc/passwd", "trials//0/output.log", "", ".", "trials/./0/output.log",
     "trials\\0", "a\0b", "trials/0", "out/secret", "trials/0/link", "trials/0/own", ".hidden", "pipe", "missing",
     "trials/0/output.log/", "trials/0/output.log/more", "C:/Windows", "x" * 5000],
)  # fmt: skip
def test_no_other_path_is_followed(directory: Path, path: str) -> None:
    with pytest.raises(Refused):
        inside(directory, path)


def test_a_listing_has_what_can_be_downloaded_alone(directory: Path) -> None:
    assert listed(directory, "trials/0") == [("trials/0/output.log", 3), ("trials/0/sub/w.pt", 7)]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\x", "x"),
        ("10%\r50%\r100%\nnext\r\n", "100%\nnext\n"),
        ("50%\r", "50%"),
        ("a\x08\x00b\x9b31mc\tend", "ab31mc\tend"),
        ("\u202eevil", "evil"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\x1b", ""),
    ],
)
def test_text_has_no_terminal_codes(raw: str, shown: str) -> None:
    assert plain(raw) == shown


@given(st.text(alphabet=st.sampled_from("\x1b[]0;1mAP\\^_\x07\x9b\r\nab")))
def test_no_escape_is_left_whatever_the_text(text: str) -> None:
    assert not set(plain(text)) & set("\x1b\x07\x9b\r")


def test_only_the_end_of_a_hundred_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(100_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast but one\nlast\n")
    tracemalloc.start()
    text, begin, size = tail(path, 1000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000
    assert (text, size) == ("last but one\nlast\n", 100_000_019)
    assert begin == 100_000_001


def test_the_end_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {i}\n" for i in range(100)))
    text, begin, size = tail(path, 20)
    assert text == "line 98\nline 99\n"
    assert begin == size - len(text)
    assert tail(path)[:2] == (path.read_text(), 0)


def test_a_search_gives_lines_with_their_numbers_in_any_case(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\n\x1b[31mTWO\x1b[0m <b>\nthree\ntwo \xff\n")
    assert search(path, "two") == ([(2, "TWO <b>"), (4, "two \\xff")], True)


def test_a_search_gives_the_last_hits_and_says_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("hit\n" * 1000)
    found, is_whole = search(path, "hit")
    assert ([number for number, _ in found], is_whole) == (list(range(801, 1001)), True)
    assert search(path, "hit", most_bytes=10)[1] is False
