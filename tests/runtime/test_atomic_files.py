"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from affekt.runtime import atomic_files
from affekt.runtime.atomic_files import atomic_folder, atomic_write, flushing, write_bytes


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(TypeError), atomic_write(tmp_path / "a.txt") as file:
        file.writelines([b"half of the new", None])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


def test_nobody_sees_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(path) as file:
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
    assert [what for what, _ in done] == ["fsync", "replace", "fsync"]  # the last is the folder's
    assert done[:2] == [("fsync", 5), ("replace", "a.txt")]


def test_an_error_names_the_file_that_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'") as raised:
        write_bytes(tmp_path / "a.txt", b"12345")
    assert (raised.value.errno, list(tmp_path.iterdir())) == (errno.ENOSPC, [])


def test_threads_that_write_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_bytes(tmp_path / "a.txt", content), contents * 4))
    assert (tmp_path / "a.txt").read_bytes() in contents
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "new") as inside:
        (inside / "a.txt").write_bytes(b"half" * (1 // 0))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    with atomic_folder(tmp_path / "old") as inside:
        (inside / "a").mkdir()
        (inside / "a" / "b.txt").write_bytes(b"whole")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt")] == ["old/a/b.txt"]
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "old"):
        pass
    assert (tmp_path / "old" / "a" / "b.txt").exists()


def test_what_is_written_out_beside_is_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_files, "OUT_BYTES", 3_000)
    parts = [bytes([number]) * 1_000 for number in range(11)]
    with atomic_write(tmp_path / "a") as file, flushing(file) as write:
        for part in parts:
            write(memoryview(part))
    assert (tmp_path / "a").read_bytes() == b"".join(parts)


def test_a_disk_that_does_not_take_what_is_written_out_is_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system says so once, to whoever syncs first; that must not get lost in another thread."""
    failures = [OSError(errno.EIO, "Input/output error")]
    sync = os.fsync

    def fail_once(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        sync(descriptor)

    monkeypatch.setattr(atomic_files, "OUT_BYTES", 1_000)
    monkeypatch.setattr(os, "fsync", fail_once)
    with (
        pytest.raises(OSError, match="Input/output error"),
        atomic_write(tmp_path / "a") as file,
        flushing(file) as write,
    ):
        write(bytes(1_000))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.txt", b"old")
    program = (
        "import os, signal, sys; from affekt.runtime.atomic_files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.txt")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_bytes() == b"old"
