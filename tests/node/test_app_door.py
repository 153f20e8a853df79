"""`xin node open` and `close`: apps on other hosts come and go while the node runs. 127.0.0.2 is outside here."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator

import httpx
import psutil
import pytest
from live_node import LiveNode

from xin.client import Client
from xin.errors import Conflict, NotFound, UsageError
from xin.node.app_door import addresses_of

OUTSIDE = "127.0.0.2"
CHAT = {"model": "slow", "messages": [{"role": "user", "content": "one two three four five six"}], "stream": True}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("door")) as node:
        node.launch("echo", model_uid="slow", tokens_per_second=4)
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client
        client.close_door()


@pytest.fixture(scope="module")
def outside(node: LiveNode) -> str:
    return f"http://{OUTSIDE}:{node.url.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def key(node: LiveNode) -> dict[str, str]:
    with Client(node.url) as client:
        first = client.open_door(OUTSIDE).first_key
        assert first is not None
        assert client.open_door(OUTSIDE).first_key is None  # told once
        client.close_door()
    return {"Authorization": f"Bearer {first}"}


def is_shut(url: str) -> bool:
    try:
        httpx.get(f"{url}/health")
    except httpx.ConnectError:
        return True
    return False


def test_it_opens_and_closes_without_a_restart(node: LiveNode, client: Client, outside: str, key: dict[str, str]):
    pid = client.node().pid
    assert not client.door().is_open and is_shut(outside)
    info = client.open_door(OUTSIDE)
    assert (info.is_open, info.addresses, f"http://{OUTSIDE}:{info.port}") == (True, [OUTSIDE], outside)
    assert httpx.get(f"{outside}/v1/models").status_code == 401
    assert [model["id"] for model in httpx.get(f"{outside}/v1/models", headers=key).json()["data"]] == ["slow"]
    assert node.http.get("/v1/models").status_code == 200  # this machine's programs need no key
    assert not client.close_door().is_open
    assert is_shut(outside)
    assert not client.close_door().is_open
    assert client.node().pid == pid


def test_an_answer_that_runs_when_it_closes_is_finished(client: Client, outside: str, key: dict[str, str]):
    client.open_door(OUTSIDE)
    words = []
    with httpx.stream("POST", f"{outside}/v1/chat/completions", json=CHAT, headers=key, timeout=30) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                words += [choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"]]
            if len(words) == 2 and client.door().is_open:
                client.close_door()
                assert is_shut(outside)
    assert "".join(words) == "one two three four five six"


def test_a_connection_that_outlives_the_door_still_needs_a_key(client: Client, outside: str, key: dict[str, str]):
    client.open_door(OUTSIDE)
    with httpx.Client(base_url=outside) as kept:
        assert kept.get("/health").status_code == 200
        client.close_door()
        reply = kept.get("/v1/models", headers={"Host": "127.0.0.1"})
        assert reply.status_code == 401


def test_whose_names_are_served(client: Client, outside: str, key: dict[str, str]):
    client.open_door(OUTSIDE, allowed_hosts=["chat.example"])
    for host, status in ((OUTSIDE, 200), ("chat.example", 200), ("evil.example", 403)):
        assert httpx.get(f"{outside}/v1/models", headers={**key, "Host": host}).status_code == status, host
    client.close_door()
    assert httpx.get(f"{client.endpoint}/v1/models", headers={"Host": "chat.example"}).status_code == 403


def test_over_tls(client: Client, outside: str, key: dict[str, str], tmp_path):
    with pytest.raises(NotFound):
        client.certificate()
    assert client.open_door(OUTSIDE, tls=True).tls
    trusted = ssl.create_default_context(cadata=client.certificate().authority)
    url = outside.replace("http", "https")
    assert httpx.get(f"{url}/v1/models", headers=key, verify=trusted).status_code == 200
    assert httpx.get(f"{url}/v1/models", verify=trusted).status_code == 401
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{outside}/v1/models", headers=key)
    client.open_door(OUTSIDE)  # and plain again
    assert httpx.get(f"{outside}/v1/models", headers=key).status_code == 200


def test_what_cannot_be_opened_is_told(client: Client, outside: str, tmp_path):
    with pytest.raises(UsageError):
        client.open_door("192.0.2.1")  # no address of this host
    assert not client.door().is_open and is_shut(outside)
    with LiveNode(tmp_path, host=OUTSIDE, api_key="k") as other, Client(other.url, api_key="k") as its:
        assert its.node().endpoint == other.url
    wide = LiveNode(tmp_path / "wide", host="0.0.0.0", api_key="k")
    with wide, Client(wide.url, api_key="k") as its, pytest.raises(Conflict, match="since its start"):
        its.open_door()


def test_by_the_terminal(node: LiveNode, client: Client, outside: str, key: dict[str, str]):
    def xin(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "xin", "node", *arguments, "-e", node.url]
        return subprocess.run(command, env=node.environ, capture_output=True, text=True, timeout=60)

    opened = xin("open", "--host", OUTSIDE)
    assert (opened.returncode, opened.stdout.strip()) == (0, outside), opened.stderr
    assert json.loads(xin("close", "--json").stdout)["is_open"] is False
    assert is_shut(outside)


Address = namedtuple("Address", "address")


def test_everywhere_is_each_address_but_loopback(monkeypatch: pytest.MonkeyPatch):
    cards = {
        "lo": [Address("127.0.0.1"), Address("::1")],
        "eth0": [Address("10.1.2.3"), Address("fe80::1%eth0"), Address("2001:db8::5"), Address("02:42:0a:01:02:03")],
        "eth1": [Address("169.254.7.7")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: cards)
    assert addresses_of("0.0.0.0") == ["10.1.2.3", "169.254.7.7"]
    assert addresses_of("::") == ["10.1.2.3", "169.254.7.7", "2001:db8::5"]
    assert addresses_of("10.1.2.3") == ["10.1.2.3"]
