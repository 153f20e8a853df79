"""Nodes on hosts of their own: found, paired, killed, unplugged, paused, parted. Figures: benchmarks/fleet.py."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from namespaces import Host, fleet, missing, pair, until

from xin.client import Client
from xin.protocol.node import LaunchRequest

PARROT = LaunchRequest(model_name="echo", model_uid="parrot", node="bee")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")


@contextmanager
def paired() -> Iterator[list[Host]]:
    """Three of them, with an echo model on the second."""
    with fleet("ant", "bee", "cat") as hosts:
        until(lambda: all(host.sees(2, "found") for host in hosts))
        pair(*hosts)
        until(lambda: all(host.sees(2) for host in hosts))
        hosts[1].ask(lambda client: client.launch(PARROT))
        until(lambda: all("parrot" in models(host) for host in hosts))
        yield hosts


@pytest.fixture(scope="module")
def three() -> Iterator[list[Host]]:
    with paired() as hosts:
        yield hosts


def models(host: Host) -> list[str]:
    return [model.id for model in host.ask(Client.models)]


def members(host: Host) -> set[tuple[str | None, str]]:
    listed = host.ask(Client.members)
    return {(listed.cluster_id, member.name) for member in listed.members}


def test_found_without_a_word_and_paired_by_digits() -> None:
    with fleet("dog", "elk") as (dog, elk):
        until(lambda: set(dog.others("found")) == {"elk"} and set(elk.others("found")) == {"dog"})
        digits = dog.ask(lambda client: client.open_pairing()).secret
        assert elk.ask(lambda client: client.join_cluster(digits, f"{dog.address}:9995"))
        until(lambda: dog.status("elk") == "alive" and elk.status("dog") == "alive")
        assert members(dog) == members(elk)
        assert {name for _, name in members(dog)} == {"dog", "elk"}


def test_a_cable_is_pulled_and_put_back(three: list[Host]) -> None:
    ant, bee, cat = three
    bee.pull_cable()
    try:
        until(lambda: ant.status("bee") == "gone" and cat.status("bee") == "gone")
        assert "parrot" not in models(ant) + models(cat)
        assert "parrot" in models(bee)
        assert ant.status("cat") == "alive"
    finally:
        bee.put_cable()
    until(lambda: "parrot" in models(ant) and "parrot" in models(cat))


def test_a_partition_heals(three: list[Host]) -> None:
    ant, bee, cat = three
    cat.move_to(cat.far_bridge)
    try:
        until(lambda: ant.status("cat") == bee.status("cat") == "gone")
        until(lambda: cat.status("ant") == cat.status("bee") == "gone")
        assert ant.status("bee") == "alive" and "parrot" in models(ant)
        assert "parrot" not in models(cat)
    finally:
        cat.move_to(cat.bridge)
    until(lambda: all(host.sees(2) for host in three))
    until(lambda: "parrot" in models(cat))


def test_a_paused_node_is_gone_until_it_goes_on(three: list[Host]) -> None:
    ant, bee, cat = three
    bee.signal(signal.SIGSTOP)
    try:
        until(lambda: ant.status("bee") == "gone" and cat.status("bee") == "gone")
        assert "parrot" not in models(ant)
    finally:
        bee.signal(signal.SIGCONT)
    until(lambda: ant.status("bee") == "alive" and "parrot" in models(cat))


def test_a_killed_node_leaves_no_models_and_comes_back() -> None:
    with paired() as (ant, bee, cat):
        bee.signal(signal.SIGKILL)
        until(lambda: ant.status("bee") == "gone" and cat.status("bee") == "gone")
        assert "parrot" not in models(ant) + models(cat)
        bee.start()
        bee.ready()
        until(lambda: ant.sees(2) and cat.sees(2))
        until(lambda: "parrot" in models(ant))  # it was launched by hand, so it is launched again


def test_hosts_without_ipv4_are_one_cluster_too() -> None:
    with fleet("ibis", "jay", without_ipv4=("ibis", "jay")) as (ibis, jay):
        until(lambda: set(ibis.others("found")) == {"jay"} and set(jay.others("found")) == {"ibis"})
        assert ":" in ibis.others("found")["jay"].addresses[0]
        pair(ibis, jay)
        until(lambda: ibis.status("jay") == "alive" and jay.status("ibis") == "alive")
        jay.ask(lambda client: client.launch(LaunchRequest(model_name="echo", model_uid="parrot", node="jay")))
        until(lambda: "parrot" in models(ibis))
        answer = ibis.ask(lambda client: client.complete("parrot", "over IPv6"))
        assert answer.choices[0].text == "over IPv6"


def test_an_outsider_gets_nothing() -> None:
    """A node on its own has no port open, one that shows digits or a token one, and so has one of a cluster."""
    with fleet("gnu", "hen", "fox", without_node=1) as (gnu, hen, fox):
        assert fox.open_ports(gnu.address) == []
        gnu.ask(lambda client: client.open_pairing())
        assert fox.open_ports(gnu.address) == [9995]
        assert fox.inside(lambda: said(gnu.address, 9995)) == b""
        gnu.ask(lambda client: client.close_pairing())
        pair(gnu, hen)
        gnu.ask(lambda client: client.close_pairing())
        assert fox.open_ports(gnu.address) == [9996]
        assert fox.inside(lambda: said(gnu.address, 9996)) == b""


def said(address: str, port: int) -> bytes:
    """What is answered over TLS, without a certificate, to a request for the node's own description."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), 5) as plain, context.wrap_socket(plain) as secured:
            secured.sendall(b"GET /api/node HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return secured.recv(4096)
    except OSError:
        return b""
