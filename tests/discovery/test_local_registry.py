"""The registry takes only what this user alone could have written, and forgets the dead."""

import os
import subprocess
import sys
import time

import pytest

from xin.node import local_registry
from xin.node.identity import Identity


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XIN_REGISTRY", str(tmp_path / "nodes"))
    return tmp_path / "nodes"


def identity(port=4242, **fields):
    return Identity("0123456789abcdef", "box", "127.0.0.1", port, **fields)


def test_what_is_written_is_read_and_removed(folder):
    assert local_registry.read_all() == []
    before = local_registry.stamp()
    me = identity()
    file = local_registry.write(me)
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    assert local_registry.stamp() != before
    (entry,) = local_registry.read_all()
    assert (entry.id, entry.nonce, entry.endpoint) == (me.id, me.nonce, "http://127.0.0.1:4242")
    local_registry.remove(file)
    assert local_registry.read_all() == []
    local_registry.remove(file)


def test_files_of_dead_processes_are_removed(folder):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    local_registry.write(identity(pid=process.pid))
    # The pid lives, but was given to this process long after that node began.
    local_registry.write(identity(started_at=time.time() - 10**6))
    assert local_registry.read_all() == []
    assert list(folder.iterdir()) == []


def test_files_that_others_could_have_written_are_ignored(folder):
    file = local_registry.write(identity())
    content = file.read_bytes()
    file.chmod(0o644)
    (folder / "link.json").symlink_to(file)
    os.mkfifo(folder / "pipe.json", 0o600)
    for name, text in {"junk.json": b"{", "huge.json": b" " * 5000 + content, "list.json": b"[]"}.items():
        (folder / name).write_bytes(text)
        (folder / name).chmod(0o600)
    assert local_registry.read_all() == []
    file.chmod(0o600)
    assert len(local_registry.read_all()) == 1


def test_a_folder_that_others_can_enter_is_refused(folder, tmp_path):
    local_registry.write(identity())
    folder.chmod(0o755)
    assert local_registry.read_all() == []
    with pytest.raises(PermissionError, match="0700"):
        local_registry.write(identity())
    folder.chmod(0o700)
    folder.rename(tmp_path / "real")
    folder.symlink_to(tmp_path / "real")
    assert local_registry.read_all() == []


def test_a_proof_needs_the_nonce():
    assert local_registry.prove("a", "00" * 8) != local_registry.prove("b", "00" * 8)
