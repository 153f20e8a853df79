"""A node that asks for API keys: what each scope may do, and what nobody is told."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import httpx
import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import Conflict, NotFound
from xin.node.key_book import KeyBook

OWN = "the-key-given-at-the-start"
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "blue whale"}]}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("keyed"), api_key=OWN) as node:
        yield node


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer x", "Basic dXNlcjpwYXNz", "Bearer " + "x" * 4000])
@pytest.mark.parametrize("path", ["/v1/models", "/api/node", "/api/events", "/", "//v1/models", "/no/such/route"])
def test_without_a_key_nothing_is_answered(node: LiveNode, given: str | None, path: str) -> None:
    reply = node.http.get(path, headers={"Authorization": given} if given else {})
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert OWN not in reply.text
    assert not given or "x" * 100 not in reply.text


def test_health_and_the_word_that_a_key_is_needed_are_for_everybody(node: LiveNode) -> None:
    assert node.http.get("/health").status_code == 200
    assert node.http.get("/v1/cluster/auth").json() == {"auth": True}


def test_a_key_may_do_what_its_scope_says(node: LiveNode) -> None:
    with Client(node.url, api_key=OWN) as owner:
        app = owner.add_key("app")
        assert app.info.scopes == ["infer"]
        with pytest.raises(Conflict):
            owner.add_key("app")
        chat = node.http.post("/v1/chat/completions", json=CHAT, headers=bearer(app.key))
        assert chat.json()["choices"][0]["message"]["content"] == "blue whale"
        assert node.http.get("/v1/models/echo", headers=bearer(app.key)).status_code == 200
        for method, path in [("POST", "/v1/models"), ("DELETE", "/v1/models/echo"), ("GET", "/api/node"),
                             ("GET", "/api/keys"), ("POST", "/api/stop"), ("POST", "/api/pairing")]:  # fmt: skip
            body = {"json": {}} if method == "POST" else {}
            refused = node.http.request(method, path, headers=bearer(app.key), **body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden"), path
        assert [key.name for key in owner.api_keys()] == ["app"]
        owner.revoke_key("app")
        assert node.http.get("/v1/models", headers=bearer(app.key)).status_code == 401
        with pytest.raises(NotFound):
            owner.revoke_key("app")


def test_the_key_is_nowhere_on_the_disk_nor_in_the_log(node: LiveNode) -> None:
    with Client(node.url, api_key=OWN) as owner:
        made = owner.add_key("secret", ["infer", "manage"])
    file = node.home / "data" / "keys.json"
    assert made.info.id in file.read_text()
    assert made.key not in file.read_text()
    assert file.parent.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) == 0
    said = node.said()
    assert "refused GET" in said
    assert said.count("refused GET") <= 2, "once a minute for each address"
    assert made.key not in said
    assert OWN not in said


def test_programs_of_the_same_user_need_not_be_told_the_key(node: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XIN_HOME", str(node.home))
    with Client(node.url) as client:
        assert client.node().endpoint == node.url
    monkeypatch.setenv("XIN_HOME", str(node.home / "elsewhere"))
    reply = httpx.get(f"{node.url}/api/node")
    assert reply.status_code == 401


def test_a_node_that_listens_everywhere_makes_a_first_key(tmp_path) -> None:
    with LiveNode(tmp_path, host="0.0.0.0") as node:
        assert node.url.startswith("http://127.0.0.1:")
        said = next(line for line in node.said().splitlines() if "not shown again" in line)
        key = said.split()[-1]
        assert node.http.get("/v1/models").status_code == 401
        assert node.http.get("/v1/models", headers=bearer(key)).status_code == 200
        for host, status in [("10.1.2.3", 200), ("evil.example", 403), ("127.0.0.1", 200)]:
            reply = node.http.get("/v1/models", headers={**bearer(key), "Host": host})
            assert reply.status_code == status, host


def test_other_names_are_served_when_they_are_allowed(tmp_path) -> None:
    with LiveNode(tmp_path, allowed_hosts="models.example") as node:
        assert node.http.get("/health", headers={"Host": "models.example"}).status_code == 200
        assert node.http.get("/health", headers={"Host": "other.example"}).status_code == 403


async def test_a_damaged_file_of_keys_lets_nobody_in(tmp_path) -> None:
    file = tmp_path / "keys.json"
    made = await KeyBook(file).add("app", ["infer"])
    assert KeyBook(file).scopes_of(made.key) == ["infer"]
    assert KeyBook(file).scopes_of(made.key + "x") == []
    file.write_text("[{")
    assert KeyBook(file).scopes_of(made.key) == []
