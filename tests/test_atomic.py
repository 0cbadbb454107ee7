"""Files that are either whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from affekt.atomic import write_bytes, writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(TypeError), writing(tmp_path / "a.txt") as file:
        file.writelines([b"half of the new", None])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


def test_nobody_sees_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    with writing(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_the_content_is_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(("fsync", os.fstat(number).st_size)), fsync(number)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append(("replace", to.name)), replace(path, to))[1])
    write_bytes(tmp_path / "a.txt", b"12345")
    assert done == [("fsync", 5), ("replace", "a.txt")]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"old")
    program = (
        "import os, signal, sys; from affekt.atomic import writing\n"
        "with writing(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.txt")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_bytes() == b"old"
