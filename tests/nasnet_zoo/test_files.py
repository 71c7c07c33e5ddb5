"""Files: whole or untouched, locks that die with their process, errors that name the file."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from nasnet_zoo.files import (
    check_folder,
    check_ours,
    check_writable,
    locked,
    read_json,
    read_text,
    replacing,
    replacing_folder,
    write_text,
)


def _fill_the_disk(path, replace):
    with replace(path) as temporary:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    file, folder = tmp_path / "a.txt", tmp_path / "model"
    write_text(file, "old")
    folder.mkdir()
    write_text(folder / "old", "old")
    for path, replace in ((file, replacing), (folder, replacing_folder)):
        with pytest.raises(OSError, match="expected to write it. Received: no space left") as raised:
            _fill_the_disk(path, replace)
        assert str(raised.value).startswith(f"{path}: ")
    assert file.read_text() == (folder / "old").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "model"]


def test_an_error_of_another_file_is_that_of_the_other_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"), replacing(tmp_path / "a.txt"):
        (tmp_path / "missing").read_text()


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    with pytest.raises(OSError, match="expected the name of a file to write. Received: a folder"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match="expected a file in an existing folder"):
        check_writable(tmp_path / "no" / "a.txt")


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"\xff\xfe\xff", "bytes that are no text"),
        (b"", "nothing"),
        (b'{"a": }', "no JSON at line 1, column 7"),
        (b"[NaN]", "the number NaN"),
        (b"[" * 100_000, "lists nested too deeply"),
        (b"1" * 10_000, "integer string conversion"),
    ],
)
def test_what_is_no_json(tmp_path, content, received):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.json: expected a recipe in JSON. Received: .*{received}"):
        read_json(path, "a recipe")


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="b.txt: expected a list. Received: no such file"):
        read_text(tmp_path / "b.txt", "a list")
    with pytest.raises(IsADirectoryError, match="expected a list. Received: is a directory"):
        read_text(tmp_path, "a list")


def _hold(folder):
    with locked(folder):
        pass


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path):
    script = (
        "import sys, time; from nasnet_zoo.files import locked\n"
        "with locked(sys.argv[1]): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="run: expected a folder in which nothing else runs"):
            _hold(tmp_path / "run")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            _hold(tmp_path / "run")
            break
        except ValueError:
            assert time.monotonic() < deadline
    with locked(tmp_path / "run"), pytest.raises(ValueError, match="nothing else runs"):
        _hold(tmp_path / "run")


def test_only_empty_folders_and_earlier_runs_are_written_into(tmp_path):
    check_ours(tmp_path / "new", "run.json", "a training run")
    check_ours(tmp_path, "run.json", "a training run")
    (tmp_path / "history.csv").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty folder.*with history.csv"):
        check_ours(tmp_path, "run.json", "a training run")
    (tmp_path / "run.json").write_text("{}")
    check_ours(tmp_path, "run.json", "a training run")
    with pytest.raises(ValueError, match="expected a folder. Received: a file"):
        check_ours(tmp_path / "run.json", "run.json", "a training run")


def test_a_lock_leaves_nothing_where_nothing_was_written(tmp_path):
    with locked(tmp_path / "a/b"):
        pass
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a/b"):
        (tmp_path / "a/b/file").touch()
    assert (tmp_path / "a/b/file").is_file()


def test_what_is_read_is_not_written_over(tmp_path):
    path = tmp_path / "model"
    path.touch()
    check_writable(path, [tmp_path / "other"])
    with pytest.raises(ValueError, match="expected the name of a file of its own. Received: one that"):
        check_writable(path, [tmp_path / ".." / tmp_path.name / "model"])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
def test_a_file_system_that_makes_no_files():
    with pytest.raises(OSError, match="^/proc/a: expected a folder that can be written to. Received: "):
        check_writable("/proc/a")


def test_a_folder_below_a_file_or_a_broken_link(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    check_folder(tmp_path / "a/b")
    for name, found in (("file/a", "a file"), ("link", "a link"), ("link/a", "a link")):
        with pytest.raises(ValueError, match=f"{name}: expected a folder. Received: {found}"):
            check_folder(tmp_path / name)
