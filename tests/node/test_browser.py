"""GET / and its WebSocket: a Textual app of one's own per visitor, ended when the visitor leaves."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, TestServer

from xin.config import Config, NodeConfig
from xin.node.app import make_app
from xin.node.browser.visitors import Visitors
from xin.node.keys import VISITORS

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
APP = """
import sys
from textual.app import App
from textual.widgets import Input, Label

class Small(App):
    def compose(self):
        yield Label("hello from " + sys.argv[1])
        yield Input()
    def on_input_changed(self, event):
        self.query_one(Label).update(f"typed {event.value} at {self.size.width} by {self.size.height}")
    def on_input_submitted(self, event):
        if event.value == "stuck":
            import time
            time.sleep(60)
        self.exit()

Small().run()
"""


@asynccontextmanager
async def served(most: int = 8) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = make_app(Config(node=NodeConfig(port=0, private=True)))
    app[VISITORS] = Visitors(most, command=lambda endpoint: [sys.executable, "-c", APP, endpoint])
    async with TestClient(TestServer(app)) as client:
        yield client


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is awaited is the state of another process
            await asyncio.sleep(0.02)


async def shown(socket: ClientWebSocketResponse, text: str) -> str:
    """All output up to `text`."""
    output = ""
    async with asyncio.timeout(30):
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                output += message.data.decode(errors="replace")
                if text in output:
                    return output
    raise AssertionError(f"closed without {text!r}: {output[-500:]}")


def visits() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is_visit(child)]


def _is_visit(child: psutil.Process) -> bool:
    try:
        return "class Small" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # it has ended, and is only not yet waited for
        return False


async def gone() -> None:
    await until(lambda: not visits())


async def test_a_visitor_gets_an_app_that_takes_keys_and_sizes(xin_home: Path) -> None:
    async with served() as client, client.ws_connect("/ui/ws?width=60&height=20") as socket:
        endpoint = f"http://127.0.0.1:{client.port}"
        await shown(socket, f"hello from {endpoint}")
        await socket.send_str(json.dumps(["resize", {"width": 70, "height": 21}]))
        await socket.send_str(json.dumps(["stdin", "x"]))
        await shown(socket, "70 by 21")
        await socket.send_str(json.dumps(["ping", "12"]))
        async with asyncio.timeout(10):
            while (message := await socket.receive()).type is not WSMsgType.TEXT:
                pass
        assert json.loads(message.data) == ["pong", "12"]
    await gone()


async def leave(socket: ClientWebSocketResponse) -> None:
    await socket.close()


async def vanish(socket: ClientWebSocketResponse) -> None:
    transport = socket.get_extra_info("socket")
    assert transport is not None
    socket._response.connection.transport.abort()  # type: ignore[union-attr]


async def quit_in_the_app(socket: ClientWebSocketResponse) -> None:
    await socket.send_str(json.dumps(["stdin", "\r"]))
    assert (await socket.receive()).type is not WSMsgType.ERROR


async def talk_nonsense(socket: ClientWebSocketResponse) -> None:
    await socket.send_str(json.dumps({"no": "list"}))


async def hang(socket: ClientWebSocketResponse) -> None:
    await socket.send_str(json.dumps(["stdin", "stuck\r"]))
    await asyncio.sleep(0.2)
    await socket.close()


@pytest.mark.parametrize("how", [leave, vanish, quit_in_the_app, talk_nonsense, hang])
async def test_the_app_ends_when_its_visitor_leaves(
    how: Callable[[ClientWebSocketResponse], Awaitable[None]], xin_home: Path
) -> None:
    async with served() as client, client.ws_connect("/ui/ws") as socket:
        await shown(socket, "hello")
        assert len(visits()) == 1
        await how(socket)
        await gone()
        await until(lambda: not len(client.app[VISITORS]))


async def test_a_node_that_stops_ends_its_visitors(xin_home: Path) -> None:
    async with ClientSession() as session, served() as client:
        socket = await session.ws_connect(client.make_url("/ui/ws"))
        await shown(socket, "hello")
        await client.close()
        assert not visits()


async def test_visitors_are_bounded(xin_home: Path) -> None:
    async with served(most=1) as client, client.ws_connect("/ui/ws") as socket:
        await shown(socket, "hello")
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect("/ui/ws")
        assert refused.value.status == 503
    await gone()


async def test_another_origin_or_a_rebound_name_opens_nothing(xin_home: Path) -> None:
    async with served() as client:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            with pytest.raises(WSServerHandshakeError) as refused:
                await client.ws_connect("/ui/ws", headers=headers)
            assert refused.value.status == 403
        for path in ("/", "/ui/start.js", "/ui/static/js/textual.js"):
            assert (await client.get(path, headers={"Host": "evil.example"})).status == 403
        assert not visits()


async def test_the_page_asks_only_its_own_node_for_anything(xin_home: Path) -> None:
    async with served() as client:
        reply = await client.get("/", headers={"Host": "localhost:4321"})
        text = await reply.text()
        assert 'data-session-websocket-url="ws://localhost:4321/ui/ws"' in text
        assert "http://" not in text and "https://" not in text
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        files = re.findall(r'(?:src|href)="(/[^"]+)"', text)
        assert len(files) == 4
        css = await (await client.get("/ui/page.css")).text()
        files += [part.partition('"')[0] for part in css.split('url("')[1:]]
        for path in files:
            assert (await client.get(path)).status == 200, path


@pytest.mark.parametrize("path", ["/ui/static/../../app.py", "/ui/static/", "/ui/page.html", "/ui/visit.py"])
async def test_nothing_else_is_served(path: str, xin_home: Path) -> None:
    async with served() as client:
        assert (await client.get(path)).status in (403, 404)


async def test_an_unknown_download_is_not_found(xin_home: Path) -> None:
    async with served() as client:
        assert (await client.get("/download/nothing")).status == 404
        assert (await client.get("/ui/ws?width=wide")).status == 400
        assert (await client.get("/?fontsize=big")).status == 400
        assert 'data-font-size="14"' in await (await client.get("/?fontsize=14")).text()
