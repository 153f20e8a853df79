"""The workbench in a real browser: `GET /` of a node, drawn by Chromium, driven by its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from aiohttp import ClientSession
from chromium import chromium, executable
from node_process import NodeProcess, running_node

COLOURS = """
(() => {
  const seen = new Set();
  for (const canvas of document.querySelectorAll("canvas")) {
    const context = canvas.getContext("2d");
    if (!context) continue;
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4) seen.add(`${data[i] >> 4},${data[i + 1] >> 4},${data[i + 2] >> 4}`);
  }
  return seen.size;
})()
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with running_node(tmp_path / "home", "--name", "desk") as started:
        launched = started.xin("launch", "echo", "--model-uid", "parrot")
        assert launched.returncode == 0, launched.stderr
        yield started


def workbenches(node: NodeProcess) -> list[psutil.Process]:
    children = psutil.Process(node.process.pid).children()
    return [child for child in children if f"xin tui -e {node.endpoint}" in " ".join(child.cmdline())]


async def test_a_visitor_gets_the_workbench_of_this_node(node: NodeProcess) -> None:
    output = b""
    async with ClientSession() as session, session.ws_connect(f"{node.endpoint}/ui/ws?width=100&height=30") as socket:
        async with asyncio.timeout(60):
            while b"parrot" not in output or b"Bench" not in output:
                output += await socket.receive_bytes()
        assert workbenches(node)
    async with asyncio.timeout(20):
        while workbenches(node):  # noqa: ASYNC110 - they are processes of another program
            await asyncio.sleep(0.05)


async def test_a_killed_node_leaves_no_workbench_behind(tmp_path: Path) -> None:
    with running_node(tmp_path / "home") as node:
        async with ClientSession() as session, session.ws_connect(f"{node.endpoint}/ui/ws") as socket:
            output = b""
            async with asyncio.timeout(60):
                while b"Bench" not in output:
                    output += await socket.receive_bytes()
            [child] = workbenches(node)
            node.process.kill()
            gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], 20)
            assert gone


@pytest.mark.slow
@pytest.mark.skipif(executable() is None, reason="a Chromium (apt install chromium)")
async def test_a_browser_shows_the_bench_and_takes_keys(node: NodeProcess, tmp_path: Path) -> None:
    async with chromium(tmp_path / "profile") as page:
        await page.call("Page.navigate", url=f"{node.endpoint}/")
        await page.until_received("parrot")
        await page.type("2")
        await asyncio.sleep(1)
        await page.type("1?")
        await asyncio.sleep(1)
        assert await page.evaluate("document.body.classList.contains('-first-byte')")
        assert await page.evaluate(COLOURS) > 8
        assert len(await page.picture()) > 20_000
        own = urlsplit(node.endpoint).netloc
        assert {urlsplit(url).netloc for url in page.requests} <= {own, ""}
        assert not page.console
