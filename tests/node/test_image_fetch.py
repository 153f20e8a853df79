"""Images named by a URL: fetched from public addresses only, by any name or form of an address; redirects end there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from made_up_images import noise

from xin.node import image_fetch


@pytest.fixture
async def port(unused_tcp_port: int) -> AsyncIterator[int]:
    async def image(request: web.Request) -> web.Response:
        return web.Response(body=noise(1), content_type="text/plain")

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound("/image.png")

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=noise(1) + bytes(image_fetch.IMAGE_BYTES))

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="image/png")

    app = web.Application()
    routes = {"/image.png": image, "/elsewhere": elsewhere, "/large": large, "/page": page}
    app.router.add_routes([web.get(path, handler) for path, handler in routes.items()])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield unused_tcp_port
    await runner.cleanup()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]"),
        *("[::ffff:127.0.0.1]", "10.0.0.7", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "[fe80::1]"),
        *("[fd00::1]", "224.0.0.1"),
    ],
)
async def test_no_private_address_is_asked(port: int, host: str) -> None:
    with pytest.raises(ValueError, match="not a public one"):
        await image_fetch.fetch(f"http://{host}:{port}/image.png")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/a.png", "http://u:p@example.org/", "http://["]
)
async def test_only_plain_urls_are_fetched(url: str) -> None:
    with pytest.raises(ValueError, match=r"only plain http|no URL"):
        await image_fetch.fetch(url)


async def test_what_is_fetched_is_an_image(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_fetch, "_is_public", lambda host: True)
    base = f"http://127.0.0.1:{port}"
    assert await image_fetch.fetch(f"{base}/image.png") == ("image/png", noise(1))
    assert await image_fetch.fetch(f"http://localhost:{port}/image.png") == ("image/png", noise(1))
    for path, words in (
        ("elsewhere", "answered with 302"),
        ("nothing", "answered with 404"),
        ("large", "20 MiB"),
        ("page", "no image"),
    ):
        with pytest.raises(ValueError, match=words):
            await image_fetch.fetch(f"{base}/{path}")
    with pytest.raises(ValueError, match="could not be fetched"):
        await image_fetch.fetch("http://127.0.0.1:1/a.png")
