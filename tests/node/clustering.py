"""Real nodes that can be paired, all on this host but strangers to one another: no folder is shared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from live_node import LiveNode

from xin.client import Client
from xin.protocol.node import Peer


class Host(LiveNode):
    """A node that is open to others on loopback, on ports of its own."""

    def __init__(self, home: Path, name: str, **settings: object) -> None:
        given = {"name": name, "private": False, "lan_host": "127.0.0.1", "lan_port": 0, "pair_port": 0, **settings}
        super().__init__(home / name, **given)
        self.name = name

    @property
    def client(self) -> Client:
        return Client(self.url)

    def peer(self, name: str) -> Peer | None:
        """A paired one; nodes of other tests are found on this network too."""
        with self.client as client:
            paired = (peer for peer in client.cluster().nodes[1:] if peer.relation == "peer")
            return next((peer for peer in paired if peer.name == name), None)

    def join(self, other: Host) -> None:
        """By a token of `other`."""
        with other.client as theirs, self.client as own:
            own.join_cluster(theirs.open_pairing(token=True).secret)


@contextmanager
def hosts(home: Path, *names: str, **settings: object) -> Iterator[list[Host]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Host(home, name, **settings)) for name in names]


def until(true: Callable[[], object], seconds: float = 10.0) -> float:
    """How long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not come to pass"
        time.sleep(0.03)
    return time.monotonic() - began


def sees(host: Host, *names: str) -> Callable[[], bool]:
    """Whether `host` has these as living peers, and no more."""

    def seen() -> bool:
        with host.client as client:
            nodes = client.cluster().nodes[1:]
        paired = {peer.name for peer in nodes if peer.relation == "peer" and peer.status == "alive"}
        return paired == set(names)

    return seen
