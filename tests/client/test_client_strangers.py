"""What the client says of servers that are no nodes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xin.client import AsyncClient, Client
from xin.errors import ForeignServer, Unreachable, UsageError

XINFERENCE = {
    "/v1/cluster/auth": '{"auth": false}',
    "/v1/cluster/version": '{"version": "4.1.0", "full-revisionid": "x"}',
    "/v1/models": '{"object": "list", "data": []}',
}
OLLAMA = {"/": "Ollama is running"}


@contextmanager
def server(pages: dict[str, str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "stranger/1"
        sys_version = ""

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            page = pages.get(self.path)
            body = (page if page is not None else json.dumps({"detail": "Not Found"})).encode()
            self.send_response(200 if page is not None else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(("pages", "name"), [(XINFERENCE, "Xinference 4.1.0"), (OLLAMA, "Ollama"), ({}, "stranger/1")])
def test_a_foreign_server_is_named(pages: dict[str, str], name: str) -> None:
    with server(pages) as endpoint, Client(endpoint) as client:
        with pytest.raises(ForeignServer, match=name) as caught:
            client.node()
        assert "--port" in (caught.value.hint or "")
        with pytest.raises(ForeignServer, match=name):
            client.launch_model("echo")
        with pytest.raises(ForeignServer, match=name):
            client.events()


async def test_a_foreign_server_is_named_by_the_async_client_too() -> None:
    with server(XINFERENCE) as endpoint:
        async with AsyncClient(endpoint) as client:
            with pytest.raises(ForeignServer, match=r"Xinference 4\.1\.0"):
                await client.node()
            with pytest.raises(ForeignServer):
                await anext(client.chat_stream("a", []))


def test_nobody_answers() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(Unreachable, match=str(port)) as caught:
            client.node()
    assert type(caught.value) is Unreachable
    assert "xin node" in (caught.value.hint or "")


def test_something_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 mail ready\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(f"127.0.0.1:{listening.getsockname()[1]}") as client, pytest.raises(ForeignServer):
            client.node()
        thread.join()


@pytest.mark.parametrize("endpoint", ["ftp://host", "http://", "http://a b", "http://host:port"])
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(UsageError, match="endpoint"):
        Client(endpoint)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9997", "http://127.0.0.1:9997/", "http://127.0.0.1:9997/v1"])
def test_forms_of_an_endpoint(endpoint: str) -> None:
    with Client(endpoint) as client:
        assert client.endpoint == "http://127.0.0.1:9997"
