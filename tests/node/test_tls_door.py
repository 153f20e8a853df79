"""`--tls`: apps on other hosts come over TLS, this machine's programs by the plain door. 127.0.0.2 is outside."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from live_node import LiveNode
from openai import OpenAI

from xin.client import Client
from xin.config import NodeConfig
from xin.errors import NotFound, Unreachable, UsageError
from xin.node.listener import for_own_programs
from xin.node.trust import authority
from xin.node.trust.server_certificate import TlsDoor

OUTSIDE = "127.0.0.2"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    home = tmp_path_factory.mktemp("tls")
    with LiveNode(home, host=OUTSIDE, tls=True, allowed_hosts="chat.example") as node:
        node.launch("echo")
        yield node


@pytest.fixture(scope="module")
def outside(node: LiveNode) -> str:
    return f"https://{OUTSIDE}:{node.url.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def ca(node: LiveNode) -> Iterator[Path]:
    file = node.home / "ca.pem"
    done = xin(node, "cert", "export", str(file))
    assert done.returncode == 0, done.stderr
    assert "chat.example" in done.stderr
    yield file


@pytest.fixture(scope="module")
def key(node: LiveNode) -> str:
    """Apps on other hosts need one."""
    with Client(node.url) as client:
        return client.add_key("app", ["infer", "manage"]).key


def xin(node: LiveNode, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xin", *arguments]
    where = {"XIN_ENDPOINT": node.url, **environ}
    return subprocess.run(command, env={**node.environ, **where}, capture_output=True, text=True, timeout=60)


def test_apps_come_over_tls_and_nobody_else(node: LiveNode, outside: str, ca: Path):
    trusted = ssl.create_default_context(cafile=str(ca))
    assert httpx.get(f"{outside}/health", verify=trusted).status_code == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{outside}/health")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{outside.replace('https', 'http')}/health")
    assert node.http.get("/health").status_code == 200  # plain, on loopback
    with pytest.raises(ssl.SSLError):
        port = int(node.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as raw:
            trusted.wrap_socket(raw, server_hostname="localhost")


def test_openais_client_streams_over_tls(outside: str, ca: Path, key: str):
    http = httpx.Client(verify=ssl.create_default_context(cafile=str(ca)))
    with OpenAI(base_url=f"{outside}/v1", api_key=key, http_client=http) as client:
        chunks = client.completions.create(model="echo", prompt="one two", stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "one two"


def test_the_certificate_is_for_the_names_that_are_given(outside: str, ca: Path):
    context = ssl.create_default_context(cafile=str(ca))
    port = int(outside.rpartition(":")[2])
    for name, good in ((OUTSIDE, True), ("chat.example", True), ("localhost", True), ("evil.example", False)):
        with socket.create_connection((OUTSIDE, port), 5) as raw:
            if good:
                context.wrap_socket(raw, server_hostname=name).close()
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    context.wrap_socket(raw, server_hostname=name)


def test_our_own_client_asks_whom_to_believe(
    node: LiveNode, outside: str, ca: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(outside) as client, pytest.raises(Unreachable) as unknown:
        client.health()
    assert "xin cert export" in (unknown.value.hint or "")
    monkeypatch.setenv("XIN_CLIENT_CA", str(ca))
    with Client(outside, api_key=key) as client:
        assert client.health().status == "ok"
        told = client.certificate()
    assert told.authority == ca.read_text()
    assert {OUTSIDE, "chat.example"} <= set(told.hosts)
    assert 300 < (told.ends_at - time.time()) / 86_400 < 398
    assert "echo" in xin(node, "list", "-e", outside, XIN_CLIENT_CA=str(ca), XIN_API_KEY=key).stdout
    monkeypatch.setenv("XIN_CLIENT_CA", os.devnull)
    with pytest.raises(UsageError) as nothing:
        Client(outside)
    assert nothing.value.param == "ca"
    monkeypatch.delenv("XIN_CLIENT_CA")
    with Client(node.url.replace("http:", "https:")) as plain, pytest.raises(Unreachable, match="does not speak TLS"):
        plain.health()


def test_a_plain_node_has_no_certificate(tmp_path: Path):
    with LiveNode(tmp_path) as plain, Client(plain.url) as client, pytest.raises(NotFound) as told:
        client.certificate()
    assert "--tls" in (told.value.hint or "")


def door(folder: Path, *addresses: str, **settings: object) -> TlsDoor:
    return TlsDoor(msgspec.convert({"host": "0.0.0.0", "tls": True, **settings}, NodeConfig), folder, lambda: addresses)


def test_the_authority_stays_and_the_certificate_follows_the_addresses(tmp_path: Path):
    first = door(tmp_path, "192.0.2.1")
    first.open()
    told = first.told()
    assert (tmp_path / "authority.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "node.pem").stat().st_mode & 0o777 == 0o600
    again = door(tmp_path, "192.0.2.1")
    again.open()
    assert again.told() == told
    moved = door(tmp_path, "192.0.2.7", "2001:db8::7")
    moved.open()
    after = moved.told()
    assert after.authority == told.authority
    assert after.fingerprint != told.fingerprint
    assert {"192.0.2.7", "2001:db8::7"} <= set(after.hosts)


def test_a_certificate_that_ends_soon_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = door(tmp_path, "192.0.2.1")
    with monkeypatch.context() as short:
        short.setattr(authority, "SERVER_DAYS", 20)
        made.open()
    before = made.told().fingerprint
    made.open()
    assert made.told().fingerprint != before


def test_a_given_certificate_is_served_and_read_anew_when_it_changes(tmp_path: Path):
    ours = authority.founded("some authority")

    def write(host: str) -> None:
        pem = authority.issue_for_hosts(ours, "given", [host])
        key, _, certificate = pem.partition("-----BEGIN CERTIFICATE")
        (tmp_path / "key.pem").write_text(key)
        (tmp_path / "cert.pem").write_text("-----BEGIN CERTIFICATE" + certificate)

    write("one.example")
    given = door(tmp_path / "own", tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    given.open()
    assert (given.told().hosts, given.told().authority) == (["one.example"], "")
    write("two.example")
    given.open()
    assert given.told().hosts == ["two.example"]
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("broken", ["missing", "garbage", "another key"])
def test_a_given_certificate_that_cannot_be_used_is_named(tmp_path: Path, broken: str):
    ours = authority.founded("some authority")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if broken != "missing":
        cert.write_text("garbage" if broken == "garbage" else authority.issue_for_hosts(ours, "given", ["one.example"]))
        key.write_text(authority.issue_for_hosts(ours, "other", ["two.example"]))
    with pytest.raises(UsageError) as told:
        door(tmp_path, tls_cert=str(cert), tls_key=str(key)).open()
    assert told.value.param == "tls_cert"


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"host": "127.0.0.1", "tls": True}, "tls"),
        ({"host": OUTSIDE, "tls_cert": "cert.pem"}, "tls_key"),
        ({"host": OUTSIDE, "tls_key": "key.pem"}, "tls_cert"),
    ],
)
def test_settings_that_contradict_each_other_are_named(settings: dict[str, object], param: str):
    with pytest.raises(UsageError) as told:
        for_own_programs(msgspec.convert(settings, NodeConfig))
    assert told.value.param == param


def test_a_port_that_is_taken_outside_ends_the_start_with_a_word(tmp_path: Path):
    with socket.create_server((OUTSIDE, 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(AssertionError, match=f"port {port} is taken"),
            LiveNode(tmp_path, host=OUTSIDE, tls=True, port=port),
        ):
            pass
        with socket.create_server(("127.0.0.1", port)):  # and the other door was closed again
            pass
