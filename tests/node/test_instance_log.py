"""The log of an instance: ring, followers, file."""

from __future__ import annotations

import asyncio

from managing import until

from xin.node import instance_log
from xin.node.instance_log import InstanceLog


async def test_tail_and_levels():
    log = InstanceLog()
    for line in ("loading", "WARNING: slow", "ERROR xin: bad", "error: worse", "information"):
        log.write(line)
    log.note("ready")
    assert [line.level for line in log.tail()] == ["info", "warning", "error", "error", "info", "info"]
    assert [line.message for line in log.tail(2)] == ["information", "ready"]
    assert log.tail(0) == []


async def test_follow_gives_the_tail_then_what_comes_then_ends():
    log = InstanceLog()
    log.write("one")
    log.write("two")
    seen = []

    async def follow():
        async for line in log.follow(tail=1):
            seen.append(line.message)

    task = asyncio.create_task(follow())
    await until(lambda: seen == ["two"])
    log.write("three")
    await until(lambda: seen == ["two", "three"])
    await log.close()
    await task


async def test_the_file_rotates(tmp_path, monkeypatch):
    monkeypatch.setattr(instance_log, "FILE_BYTES", 100)
    monkeypatch.setattr(instance_log, "FLUSH_SECONDS", 0.01)
    file = tmp_path / "logs/a.log"
    log = InstanceLog(file)
    log.write("x" * 200)
    await until(lambda: file.exists() and file.stat().st_size > 200)
    log.write("after")
    await log.close()
    assert file.read_text().endswith("info    worker: after\n")
    assert "xxx" in (tmp_path / "logs/a.log.1").read_text()


async def test_a_full_disk_costs_only_the_file(tmp_path, caplog):
    (tmp_path / "full.log").symlink_to("/dev/full")
    log = InstanceLog(tmp_path / "full.log")
    log.write("kept in memory")
    await log.close()
    assert log.tail()[0].message == "kept in memory"
    assert "No space left on device" in caplog.text
