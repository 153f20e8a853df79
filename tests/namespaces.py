"""Hosts made of network namespaces on one bridge: real nodes, each with its own name, home and network card.

Needs root and Linux; `missing()` says what else is not here.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from xin.client import Client
from xin.protocol.node import Peer

T = TypeVar("T")
LETTERS = itertools.cycle(string.ascii_lowercase)  # several networks of one process
CLONE_NEWNET = 0x40000000
SUBNET, SUBNET6 = "10.77.0", "fd77"
ENDPOINT = "http://127.0.0.1:9997"
NODE = [sys.executable, "-m", "xin", "node"]


def missing() -> str:
    """What is lacking here for namespaces, in words; empty if nothing is."""
    if lacks := [tool for tool in ("ip", "unshare", "hostname") if shutil.which(tool) is None]:
        return f"{', '.join(lacks)} (Debian: iproute2, util-linux, hostname)"
    if os.geteuid() != 0:
        return "root"
    name = f"xinp{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return f"leave to make them: {made.stderr.strip()}" if made.returncode else ""


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def enter(namespace: str) -> None:
    """Move the calling thread, and it alone, into the network of `namespace`."""
    with Path("/run/netns", namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


class Host:
    """One namespace, and the node in it. `cable` is the end of its network card that is plugged into the bridge."""

    def __init__(self, network: Network, index: int, name: str) -> None:
        self.name = name
        self.address = f"{SUBNET}.{index + 1}"
        self.namespace = f"{network.tag}n{index}"
        self.cable = f"{network.tag}v{index}"
        self.home = network.home / name
        self.environ: dict[str, str] = {}  # what its node gets besides
        self.has_ipv4 = True
        self.process: subprocess.Popen[str] | None = None
        self.bridge, self.far_bridge = network.bridge, network.far_bridge
        self._inside = ThreadPoolExecutor(1, initializer=enter, initargs=(self.namespace,))

    def plug(self) -> None:
        """Make the namespace and its card, on the bridge."""
        ip("netns", "add", self.namespace)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", self.cable, "master", self.bridge, "up")
        if self.has_ipv4:
            ip("-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", "eth0")
        else:
            self.address = f"{SUBNET6}::{self.address.rpartition('.')[2]}"
            ip("-n", self.namespace, "addr", "add", f"{self.address}/64", "dev", "eth0", "nodad")
        for device in ("eth0", "lo"):
            ip("-n", self.namespace, "link", "set", device, "up")
        if self.has_ipv4:
            ip("-n", self.namespace, "route", "add", "default", "dev", "eth0")

    def start(self, *flags: str) -> None:
        """`xin node`; wait for it with `ready`."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "stderr.txt").open("ab") as stderr:
            self.process = subprocess.Popen(
                self.command(*NODE, *flags), env=self.environment(), stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def command(self, *words: str) -> list[str]:
        """`words` on this host, under its name; to be run with its `environment`."""
        named = ["sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.namespace, "unshare", "-u", *named, *words]

    def environment(self) -> dict[str, str]:
        """A user of this host alone: no file of another's is in it."""
        own = {"HOME": "home", "XIN_HOME": "xin", "HF_HOME": "hf", "XDG_RUNTIME_DIR": "run", "XIN_REGISTRY": "registry"}
        environ = {key: value for key, value in os.environ.items() if not key.startswith("XIN_")}
        return environ | {key: str(self.home / folder) for key, folder in own.items()} | self.environ

    def ready(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        assert " ready on " in self.process.stdout.readline(), (self.home / "stderr.txt").read_text()

    def signal(self, number: int) -> None:
        """To the node; what it had started is its own care."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self._reap()

    def pull_cable(self) -> None:
        ip("link", "set", self.cable, "down")

    def put_cable(self) -> None:
        ip("link", "set", self.cable, "up")

    def lose(self, percent: int) -> None:
        """Of all packets that come to it and that it sends, so many are lost; 0: none any more."""
        rules = ["add table inet weather", "delete table inet weather"]
        if percent:
            rules += ["add table inet weather"]
            for hook, card in (("input", "iifname"), ("output", "oifname")):
                rules += [
                    f"add chain inet weather {hook} {{ type filter hook {hook} priority 0; }}",
                    f'add rule inet weather {hook} {card} "eth0" numgen random mod 100 < {percent} counter drop',
                ]
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, "nft", "-f", "-"],
            input="\n".join(rules), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def lost(self) -> int:
        """Packets that `lose` has taken."""
        table = ["ip", "netns", "exec", self.namespace, "nft", "list", "table", "inet", "weather"]
        listed = subprocess.run(table, capture_output=True, text=True, check=True).stdout
        return sum(map(int, re.findall(r"packets (\d+)", listed)))

    def move_to(self, bridge: str) -> None:
        """Its cable goes to another bridge: a partition."""
        ip("link", "set", self.cable, "master", bridge)

    def inside(self, job: Callable[[], T]) -> T:
        """Run `job` in a thread whose sockets are this host's."""
        return self._inside.submit(job).result(120)

    def ask(self, call: Callable[[Client], T]) -> T:
        def asked() -> T:
            with Client(ENDPOINT) as client:
                return call(client)

        return self.inside(asked)

    def others(self, relation: str = "peer") -> dict[str, Peer]:
        """By name, as this host's node lists them."""
        nodes = self.ask(Client.cluster).nodes[1:]
        return {peer.name: peer for peer in nodes if peer.relation == relation}

    def status(self, name: str) -> str | None:
        peer = self.others().get(name)
        return peer.status if peer else None

    def sees(self, count: int, relation: str = "peer") -> bool:
        """Whether exactly so many others are alive to it."""
        return sum(peer.status == "alive" for peer in self.others(relation).values()) == count

    def traffic(self) -> tuple[int, int]:
        """Bytes in and out of its network card so far."""
        lines = subprocess.run(
            ["ip", "netns", "exec", self.namespace, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        fields = next(line.split() for line in lines if "eth0:" in line)
        return int(fields[1]), int(fields[9])

    def open_ports(self, address: str) -> list[int]:
        """What an outsider that scans it from here finds."""
        return self.inside(lambda: [port for port in range(1, 65536) if _is_open(address, port)])

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self._reap()
        self._inside.shutdown()
        subprocess.run(["ip", "link", "del", self.cable], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True)

    def _reap(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.process.stdout.close()


def _is_open(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


class Network:
    """A bridge that forwards everything, multicast too, and a second one to part hosts with."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tag = f"x{os.getpid() % 100_000}{next(LETTERS)}"  # a card's name has 15 characters at most
        self.bridge = f"{self.tag}br"
        self.far_bridge = f"{self.tag}far"

    def make(self) -> None:
        for bridge in (self.bridge, self.far_bridge):
            ip("link", "add", bridge, "type", "bridge", "mcast_snooping", "0")
            ip("link", "set", bridge, "up")

    def unmake(self) -> None:
        for bridge in (self.bridge, self.far_bridge):
            subprocess.run(["ip", "link", "del", bridge], capture_output=True)


@contextmanager
def fleet(
    *names: str,
    without_node: int = 0,
    environs: Mapping[str, Mapping[str, str]] | None = None,
    without_ipv4: Collection[str] = (),
) -> Iterator[list[Host]]:
    """Running nodes of these names, strangers to one another; none on the last `without_node` hosts.

    `environs`: variables that the nodes of these names get besides.
    """
    with tempfile.TemporaryDirectory(prefix="xin-fleet-") as home, ExitStack() as stack:
        network = Network(Path(home))
        stack.callback(network.unmake)
        network.make()
        hosts = [Host(network, index, name) for index, name in enumerate(names)]
        for host in hosts:
            host.environ |= (environs or {}).get(host.name, {})
            host.has_ipv4 = host.name not in without_ipv4
            stack.callback(host.end)
            host.plug()
        running = hosts[: len(hosts) - without_node]
        for host in running:
            host.start()
        for host in running:
            host.ready()
        yield hosts


def pair(first: Host, *others: Host) -> None:
    """By one token of `first`."""
    token = first.ask(lambda client: client.open_pairing(token=True)).secret
    for other in others:
        other.ask(lambda client: client.join_cluster(token))


def until(true: Callable[[], object], seconds: float = 30.0) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not come to pass"
        time.sleep(0.03)
    return time.monotonic() - began
