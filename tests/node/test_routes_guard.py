"""A web page of another origin can do nothing; a body must say that it is JSON."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from live_node import LiveNode


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("guarded")) as node:
        yield node


def port(node: LiveNode) -> str:
    return node.url.rpartition(":")[2]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost:PORT", "LOCALHOST", "app.localhost", "[::1]:PORT", "127.8.9.1"]
)
def test_loopback_names_are_served_with_any_port(node: LiveNode, host: str):
    reply = node.http.get("/health", headers={"Host": host.replace("PORT", port(node))})
    assert reply.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:PORT", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0",
     "127.0.0.1@evil.example", "[::1", "[fe80::1]", "localhost:PORT:1", "2130706433"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/api/events", "/no/such/route"])
def test_a_name_that_was_rebound_is_refused(node: LiveNode, host: str, path: str):
    reply = node.http.get(path, headers={"Host": host.replace("PORT", port(node))})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "forbidden"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "SAME-SITE"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/models"), ("DELETE", "/v1/models/x"), ("POST", "/api/stop"), ("POST", "/v1/chat/completions"),
     ("PUT", "/health"), ("OPTIONS", "/v1/models"), ("POST", "/v1/models/x/cancel")],
)  # fmt: skip
def test_a_page_of_another_origin_changes_nothing(node: LiveNode, method: str, path: str, headers: dict[str, str]):
    reply = node.http.request(method, path, headers=headers, json={})
    assert reply.status_code == 403
    assert "access-control-allow-origin" not in reply.headers
    assert node.http.get("/health").status_code == 200


def test_a_page_may_not_open_a_websocket(node: LiveNode):
    headers = {"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"}
    assert node.http.get("/api/events", headers=headers).status_code == 403


def test_the_nodes_own_pages_may(node: LiveNode):
    headers = {"Origin": node.url, "Sec-Fetch-Site": "same-origin"}
    assert node.http.post("/v1/tokenize", headers=headers, json={}).status_code == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_must_say_that_it_is_json(node: LiveNode, kind: str):
    reply = node.http.post("/v1/chat/completions", content=b'{"model":"echo"}', headers={"Content-Type": kind})
    assert reply.status_code == 415
    assert reply.json()["error"]["code"] == "unsupported_media_type"


def test_json_with_a_charset_is_json(node: LiveNode):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    reply = node.http.post("/v1/chat/completions", content=b'{"model":"no-such","messages":"x"}', headers=headers)
    assert reply.status_code == 404


def test_an_empty_body_needs_no_type(node: LiveNode):
    reply = node.http.post("/v1/models/no-such/cancel")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


def test_duplicate_slashes_are_one(node: LiveNode):
    with httpx.Client() as client:
        assert client.get(f"{node.url}//v1///models?x=1").json()["object"] == "list"
        assert client.delete(f"{node.url}//v1/models/no-such").json()["error"]["code"] == "model_not_found"
        wrong = client.put(f"{node.url}//v1/models")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET,HEAD,POST")
        assert client.get(f"{node.url}//v1/nothing").status_code == 404
