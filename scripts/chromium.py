"""A headless Chromium, driven over its DevTools protocol: what a page asks for and is sent, its terminal's text, and a
picture of it.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import itertools
import re
import shutil
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse
from rich.cells import cell_len

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--no-first-run"]

_DRAWN = re.compile(
    r"\x1b\[(\d*);?(\d*)H|\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\x00-\x1f]|[^\x00-\x1f]+"
)


class Screen:
    """What a terminal shows of Textual's output, which is text put at places."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, str]] = {}
        self._row = self._column = 1

    def draw(self, output: str) -> None:
        """Whole escape sequences only."""
        for part in _DRAWN.finditer(output):
            if part[1] is not None:
                self._row, self._column = int(part[1] or 1), int(part[2] or 1)
            elif part[0] == "\n":
                self._row += 1
            elif part[0] == "\r":
                self._column = 1
            elif part[0] >= " ":
                self._write(part[0])

    def _write(self, text: str) -> None:
        for character in text:
            width = cell_len(character)
            row = self._rows.setdefault(self._row, {})
            if width:
                row[self._column] = character
                row.update(dict.fromkeys(range(self._column + 1, self._column + width), ""))
            self._column += width

    @property
    def text(self) -> str:
        lines = []
        for number in range(1, max(self._rows, default=0) + 1):
            row = self._rows.get(number, {})
            lines.append("".join(row.get(column, " ") for column in range(1, max(row, default=0) + 1)))
        return "\n".join(lines)


def executable() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab. `requests` are the URLs it has asked for, `screen` what came over its WebSockets, drawn."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.screen = Screen()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.console: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(reply, 30)

    async def evaluate(self, script: str) -> Any:
        reply = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return reply["result"].get("value")

    async def type(self, text: str) -> None:
        """Enter is a carriage return."""
        for character in text:
            await self.call("Input.dispatchKeyEvent", type="char", text=character)

    async def picture(self) -> bytes:
        """As PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])

    async def until_shown(self, *texts: str, seconds: float = 60) -> str:
        """The screen, once it shows all of them; one that is given twice must be there twice."""
        try:
            async with asyncio.timeout(seconds):
                while any(self.screen.text.count(text) < texts.count(text) for text in texts):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # the browser tells when it likes
        except TimeoutError:
            raise AssertionError(f"{texts} did not come:\n{self.screen.text}\n{self.console}") from None
        return self.screen.text

    async def listen(self) -> None:
        async for message in self._socket:
            data = message.json()
            if "id" in data:
                self._replies.pop(data["id"]).set_result(data.get("result", data))
            else:
                self._take(data["method"], data["params"])

    def _take(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(told["url"])
        elif method == "Network.webSocketFrameReceived":
            frame = told["response"]
            if frame["opcode"] == 2:
                self.screen.draw(self._decoder.decode(base64.b64decode(frame["payloadData"])))
        elif method in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.console.append(str(told)[:300])


@asynccontextmanager
async def chromium(folder: Path, size: tuple[int, int] = (1100, 720)) -> AsyncIterator[Page]:
    """An empty page; everything is ended and nothing of it is kept but in `folder`."""
    program = executable()
    assert program is not None
    flags = [*FLAGS, f"--user-data-dir={folder}", "--remote-debugging-port=0", "--window-size={},{}".format(*size)]
    process = await asyncio.create_subprocess_exec(program, *flags, "about:blank", stderr=DEVNULL, stdout=DEVNULL)
    try:
        async with ClientSession() as session:
            port = await _port(folder / "DevToolsActivePort")
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                tabs = await reply.json()
            url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                page = Page(socket)
                listener = asyncio.create_task(page.listen())
                for domain in ("Network", "Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                yield page
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def _port(file: Path) -> int:
    async with asyncio.timeout(30):
        while not (file.exists() and "\n" in file.read_text()):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.05)
    return int(file.read_text().split("\n")[0])  # noqa: ASYNC240
