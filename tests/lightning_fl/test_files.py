import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_fl.files import write_bytes, write_text
from tests.waiting import wait_until

WRITER = """
import sys
from pathlib import Path
from lightning_fl.files import write_bytes
path, letters = Path(sys.argv[1]), b"ab"
for number in range(10**9):
    write_bytes(path, letters[number % 2 : number % 2 + 1] * 2_000_000)
"""


def refuse(*_: object, **__: object) -> None:
    raise OSError("disk full")


def test_content_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "old, and longer")
    write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "nowhere" / "file", b"")


def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for pause in (0.0, 0.013, 0.031):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
            path.unlink(missing_ok=True)
            wait_until(path.exists)
            time.sleep(pause)
            writer.kill()
        content = path.read_bytes()
        assert len(content) == 2_000_000
        assert len(set(content)) == 1
