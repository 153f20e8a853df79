"""What is open on the bridge, and what everybody gets who should not come in. docs/security.md has the table."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from namespaces import Host, fleet, missing, pair, until

from xin.errors import XinError
from xin.node.trust import authority

KEY = "a-key-for-tests-only"
EVERYWHERE = {"XIN_NODE_HOST": "0.0.0.0", "XIN_NODE_API_KEY": KEY}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    """Two of a cluster, of which one has a door for apps and one has it over TLS, and one without a node."""
    environs = {"owl": EVERYWHERE, "pig": {**EVERYWHERE, "XIN_NODE_TLS": "true"}}
    with fleet("owl", "pig", "fox", without_node=1, environs=environs) as made:
        owl, pig, _ = made
        as_keyed(owl, pig)
        yield made


def as_keyed(owl: Host, pig: Host) -> None:
    """Paired; on these hosts every request needs the key, their own too."""
    token = keyed(owl, "POST", "/api/pairing", {"token": True})["secret"]
    keyed(pig, "POST", "/api/pairing/join", {"secret": token})
    until(lambda: len(keyed(owl, "GET", "/api/members")["members"]) == 2)


def keyed(host: Host, method: str, path: str, body: object = None) -> dict:
    """By a program of the host itself."""

    def asked() -> httpx.Response:
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.request(method, f"http://127.0.0.1:9997{path}", json=body, headers=headers, timeout=30)

    reply = host.inside(asked)
    assert reply.status_code == 200, reply.text
    return reply.json()


def log_of(host: Host) -> str:
    return (host.home / "stderr.txt").read_text()


def udp_ports(host: Host) -> set[int]:
    """Those that are bound beyond loopback."""
    found: set[int] = set()
    for table in ("udp", "udp6"):
        command = ["ip", "netns", "exec", host.namespace, "cat", f"/proc/net/{table}"]
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]:
            address, _, port = line.split()[1].rpartition(":")
            if address not in ("0100007F", "00000000000000000000000001000000"):
                found.add(int(port, 16))
    return found


def said_over_tls(address: str, port: int, certificate: Path | None = None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate)
    try:
        with socket.create_connection((address, port), 5) as plain, context.wrap_socket(plain) as secured:
            secured.sendall(b"GET /api/node HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return secured.recv(65536)
    except OSError:
        return b""


def said(address: str, port: int, sent: bytes) -> bytes:
    try:
        with socket.create_connection((address, port), 5) as plain:
            plain.settimeout(5)
            plain.sendall(sent)
            return plain.recv(65536)
    except OSError:
        return b""


def test_the_ports_are_these_and_no_others(hosts: list[Host]) -> None:
    owl, pig, fox = hosts
    for host in (owl, pig):
        keyed(host, "DELETE", "/api/pairing")
        ports = fox.open_ports(host.address)
        print(f"{host.name}: TCP {ports}, UDP {sorted(udp_ports(host))}")
        assert ports == [9996, 9997]
        assert udp_ports(host) == {5353}


def test_without_a_key_the_door_for_apps_tells_nothing(hosts: list[Host]) -> None:
    owl, pig, fox = hosts
    for host, scheme in ((owl, "http"), (pig, "https")):
        url = f"{scheme}://{host.address}:9997"

        def asked(method: str = "GET", path: str = "/api/node", url: str = url, **headers: str) -> httpx.Response:
            return httpx.request(method, f"{url}{path}", headers=headers, verify=False, timeout=10)

        replies = [
            (401, fox.inside(asked)),
            (401, fox.inside(partial(asked, authorization="Bearer guess"))),
            (403, fox.inside(partial(asked, host="evil.example", authorization=f"Bearer {KEY}"))),
            (403, fox.inside(partial(asked, "POST", "/api/stop", origin="https://evil.example"))),
        ]
        for status, reply in replies:
            assert reply.status_code == status, reply.text
            for secret in (KEY, host.name, str(host.home), "python", "/root"):
                assert secret not in reply.text
        refused = [line for line in log_of(host).splitlines() if "refused" in line and fox.address in line]
        assert len(refused) == 1, refused  # many refusals within a minute are one line
        assert KEY not in log_of(host)
    assert b"200 OK" not in fox.inside(lambda: said_over_tls(owl.address, 9997))
    assert b"HTTP" not in fox.inside(
        lambda: said(pig.address, 9997, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    )


def test_the_door_for_members_takes_no_other_certificate(hosts: list[Host], tmp_path: Path) -> None:
    owl, _, fox = hosts
    foreign = tmp_path / "foreign.pem"
    foreign.write_text(authority.issue(authority.found(), keyed(owl, "GET", "/api/node")["id"]))
    assert fox.inside(lambda: said_over_tls(owl.address, 9996)) == b""
    assert fox.inside(lambda: said_over_tls(owl.address, 9996, foreign)) == b""
    assert fox.inside(lambda: said(owl.address, 9996, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")) in (
        b"",
        b"\x15\x03\x01\x00\x02\x02F",
    )
    refused = [line for line in log_of(owl).splitlines() if "the port for paired nodes" in line]
    assert len(refused) == 1, refused


def test_a_certificate_that_was_good_is_worth_nothing_once_its_node_is_out(tmp_path: Path) -> None:
    with fleet("ape", "bat", "eel") as (ape, bat, eel):
        pair(ape, bat, eel)
        until(lambda: ape.sees(2) and eel.sees(2))
        (papers,) = (bat.home / "xin" / "data" / "cluster").glob("*/node.pem")
        stolen = tmp_path / "stolen.pem"
        stolen.write_bytes(papers.read_bytes())
        assert b"200 OK" in eel.inside(lambda: said_over_tls(ape.address, 9996, stolen))
        ape.ask(lambda client: client.revoke_member("bat"))
        for host in (ape, eel):
            assert b"200 OK" not in bat.inside(lambda address=host.address: said_over_tls(address, 9996, stolen))
            assert set(host.others()) == {"ape", "eel"} - {host.name}


def test_digits_and_tokens_end(hosts: list[Host]) -> None:
    """Guessed three times, expired, replayed after a rotation: and the right ones are refused too."""
    with fleet("elf", "gnu") as (elf, gnu):
        door = f"{elf.address}:9995"

        def refused(secret: str, address: str = "") -> None:
            with pytest.raises(XinError) as told:
                gnu.ask(lambda client: client.join_cluster(secret, address))
            assert secret not in told.value.message and str(elf.home) not in told.value.message

        digits = elf.ask(lambda client: client.open_pairing()).secret
        for guess in range(3):
            refused(f"{(int(digits) + guess + 1) % 1_000_000:06d}", door)
        refused(digits, door)
        assert gnu.open_ports(elf.address) == []
        assert digits not in log_of(elf)

        short = elf.ask(lambda client: client.open_pairing(token=True, minutes=1 / 60)).secret
        time.sleep(1.5)
        refused(short)

        token = elf.ask(lambda client: client.open_pairing(token=True)).secret
        gnu.ask(lambda client: client.join_cluster(token))
        gnu.ask(lambda client: client.leave_cluster())
        elf.ask(lambda client: client.rotate_cluster())
        refused(token)
        assert json.dumps(token) not in log_of(elf)
