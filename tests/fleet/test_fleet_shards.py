"""A model divided over hosts of their own: equal text, memory as planned, and nothing readable on the wire."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from namespaces import Host, fleet, missing, pair, until

from xin.client import Client
from xin.protocol.node import Instance, LaunchRequest

pytestmark = pytest.mark.slow
LAN_PORT, MDNS_PORT = 9996, 5353
TCP, UDP, IGMP, ICMPV6 = 6, 17, 2, 58
IP, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
SECRETS = (b"blk.20.attn", b"ffn_down", b"whales")  # tensors have their names in RPC


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")


def test_divided_over_two_hosts() -> None:
    with fleet("ant", "bee") as (ant, bee):
        until(lambda: ant.sees(1, "found") and bee.sees(1, "found"))
        pair(ant, bee)
        until(lambda: ant.sees(1) and bee.sees(1))
        expected = words(ant, "whole", node="ant")
        alone = resident(ant, "xin.worker")
        ant.ask(lambda client: client.terminate("whole"))
        with captured(ant.cable) as seen:
            assert words(ant, "divided", shard=["ant", "bee"]) == expected
        assert [kind for kind in seen if kind not in ("tls", "arp", "mdns", "nd")] == []
        assert seen["tls"] > 40_000_000, "the weights of the layers have crossed"
        instance = the_instance(ant)
        here, there = instance.shards
        assert resident(bee, "xin.backends.llama_cpp.rpc_server") < there.need_bytes
        assert resident(ant, "xin.worker") < min(here.need_bytes, alone - 50_000_000)
        assert abs(here.layers - there.layers) <= 2
        bee.pull_cable()
        try:
            lost = until(lambda: the_instance(ant).state == "failed", 15)
            assert "bee, which holds a part of divided, was lost" in (the_instance(ant).cause or "")
            until(lambda: not resident(bee, "xin.backends.llama_cpp.rpc_server"), 15)
        finally:
            bee.put_cable()
        print(f"a pulled cable is told after {lost:.1f} s")


def words(host: Host, uid: str, **fields: object) -> str:
    order = {"model_name": "smollm2", "model_uid": uid, "options": {"context_length": 512, "threads": 1}, **fields}
    host.ask(lambda client: client.launch(LaunchRequest(**order)))  # type: ignore[arg-type]

    def asked(client: Client) -> str:
        said = [{"role": "user", "content": "Tell me of whales."}]
        return client.chat(uid, said, temperature=0, max_tokens=64).choices[0].message.content or ""

    return host.ask(asked)


def the_instance(host: Host) -> Instance:
    return host.ask(Client.instances)[0]


def resident(host: Host, module: str) -> int:
    """Bytes of its child that runs `module`; 0 when there is none."""
    assert host.process is not None
    for child in psutil.Process(host.process.pid).children(recursive=True):
        try:
            if module in child.cmdline():
                return int(child.memory_info().rss)
        except psutil.Error:
            continue
    return 0


@contextmanager
def captured(device: str) -> Iterator[Counter[str]]:
    """Bytes that cross a cable meanwhile, by kind; whatever is none of those expected is a kind of its own."""
    seen: Counter[str] = Counter()
    over = threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as tap:
        tap.bind((device, 0))
        tap.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE

        def listen() -> None:
            streams: dict[bytes, int] = {}
            while not over.is_set():
                if select.select([tap], [], [], 0.1)[0]:
                    frame = tap.recv(1 << 17)
                    seen[kind_of(frame, streams)] += len(frame)

        listening = threading.Thread(target=listen)
        listening.start()
        try:
            yield seen
        finally:
            over.set()
            listening.join()


def kind_of(frame: bytes, streams: dict[bytes, int]) -> str:
    """`streams`: how far each TCP stream has been read as TLS records."""
    (ether,) = struct.unpack_from("!H", frame, 12)
    if ether == ARP:
        return "arp"
    if ether not in (IP, IPV6):
        return f"ethernet {ether:#06x}"
    if any(secret in frame for secret in SECRETS):
        return "plain text"
    head = (frame[14] & 15) * 4 if ether == IP else 40
    protocol = frame[14 + 9] if ether == IP else frame[14 + 6]
    at = 14 + head
    if protocol in (IGMP, ICMPV6) or (ether == IPV6 and protocol == 0):  # hop-by-hop: multicast listener reports
        return "nd"
    ports = struct.unpack_from("!HH", frame, at)
    if protocol == UDP and MDNS_PORT in ports:
        return "mdns"
    if protocol == TCP and LAN_PORT in ports:
        return tls_or_not(frame, at, streams)
    return f"protocol {protocol}, ports {ports}"


def tls_or_not(frame: bytes, at: int, streams: dict[bytes, int]) -> str:
    """The first bytes of each way of a connection must be a TLS handshake."""
    total = struct.unpack_from("!H", frame, 16)[0] + 14 if frame[12:14] == b"\x08\x00" else len(frame)
    payload = frame[at + (frame[at + 12] >> 4) * 4 : total]
    flags, way = frame[at + 13], frame[at - 8 : at + 4]
    if flags & 2:  # SYN
        streams[way] = 0
    elif payload and streams.get(way) == 0:
        streams[way] = len(payload)
        if payload[:2] != b"\x16\x03":
            return "no TLS"
    return "tls"
