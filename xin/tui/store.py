"""What is known of the fleet, without any looks: screens draw it, followers fill it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # the first frame does not wait for the wire types
    from xin.protocol.node import Device, Event, Instance, Job, NodeInfo, Peer, WorkerInfo

Relation = Literal["self", "local", "peer", "found"]
Topic = Literal["nodes", "instances", "samples", "jobs", "link"]
LinkState = Literal["connecting", "live", "lost"]
TOPICS: frozenset[str] = frozenset({"nodes", "instances", "samples", "jobs", "link"})
HISTORY = 120
NODES_PATH = "/api/nodes/"  # and a member's id: all its routes, through the node that is asked
_ORDER = {"self": 0, "local": 1, "peer": 2, "found": 3}


class Target(NamedTuple):
    """A running model: where and which."""

    node_id: str
    uid: str


@dataclass(slots=True)
class Link:
    """Whether a node is talked to. `since`: unix seconds of the last change; `cause`: why not, in words."""

    state: LinkState = "connecting"
    endpoint: str | None = None
    since: float = field(default_factory=time.time)
    cause: str = ""


@dataclass(slots=True)
class NodeView:
    """A node and the last that was heard of it; what it said stays when it falls silent. `seen_at`: unix seconds.

    `relation`: self (the one talked to), local, peer, found. `status`: alive, slow, gone. `rates` are tokens/s, one a
    second; `ttfts` milliseconds, one a request; both by uid, newest last.
    """

    id: str
    name: str = ""
    relation: str = "local"
    status: str = "alive"
    endpoint: str | None = None
    info: NodeInfo | None = None
    instances: dict[str, Instance] = field(default_factory=dict)
    devices: list[Device] = field(default_factory=list)
    workers: dict[str, WorkerInfo] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    seen_at: float = field(default_factory=time.time)
    addresses: list[str] = field(default_factory=list)
    rates: dict[str, deque[float]] = field(default_factory=dict)
    ttfts: dict[str, deque[float]] = field(default_factory=dict)


class Totals(NamedTuple):
    """Sums over the nodes that answer. The bytes are of accelerators where there are any, else of RAM."""

    nodes: int
    gpus: int
    used_bytes: int
    total_bytes: int
    models: int
    tokens_per_second: float
    running_jobs: int


class Store:
    """`nodes` stands in the order in which it is shown: self, local, peers, found; then by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeView] = {}
        self.link = Link()
        self._listeners: list[Callable[[frozenset[str]], None]] = []
        self._pending: set[str] = set()

    # ---- reading

    def listen(self, callback: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Call it with the topics that changed, once a turn of the loop. Returns what ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def node(self, node_id: str) -> NodeView | None:
        return self.nodes.get(node_id)

    @property
    def home(self) -> NodeView | None:
        """The node that is talked to."""
        return next((view for view in self.nodes.values() if view.relation == "self"), None)

    def instance(self, target: Target) -> Instance | None:
        view = self.nodes.get(target.node_id)
        return view.instances.get(target.uid) if view is not None else None

    def targets(self, ready_only: bool = True) -> list[Target]:
        """The models of all nodes; `ready_only`: those that would answer now, without further replicas."""
        return [
            Target(view.id, uid)
            for view in self.nodes.values()
            for uid, instance in view.instances.items()
            if not ready_only or (instance.state == "ready" and view.status != "gone" and not instance.serves)
        ]

    def jobs(self) -> list[tuple[str, Job]]:
        """All jobs of all nodes, newest first."""
        found = [(view.id, job) for view in self.nodes.values() for job in view.jobs.values()]
        return sorted(found, key=lambda at: -at[1].created_at)

    def totals(self) -> Totals:
        alive = [view for view in self.nodes.values() if view.status != "gone" and view.relation != "found"]
        devices = _devices(alive)
        gpus = [device for device in devices if device.kind != "cpu"]
        counted = gpus or devices
        running = [one for view in alive for one in view.instances.values() if one.state == "ready"]
        return Totals(
            nodes=len(alive),
            gpus=len(gpus),
            used_bytes=sum(
                device.total_bytes - device.free_bytes for device in counted if device.free_bytes is not None
            ),
            total_bytes=sum(device.total_bytes for device in counted),
            models=len(running),
            tokens_per_second=sum(one.stats.tokens_per_second for one in running if one.stats.running),
            running_jobs=sum(job.state == "running" for view in alive for job in view.jobs.values()),
        )

    # ---- writing

    def set_link(self, state: LinkState, endpoint: str | None = None, cause: str = "") -> None:
        if (state, endpoint, cause) != (self.link.state, self.link.endpoint, self.link.cause):
            since = self.link.since if state == self.link.state else time.time()
            self.link = Link(state, endpoint, since, cause)
            self.changed("link")

    def set_home(self, node_id: str) -> None:
        """This node is the one talked to now; the one before it stays as a node of the same host."""
        for view in self.nodes.values():
            if view.id == node_id:
                view.relation = "self"
            elif view.relation == "self":
                view.relation = "local"
        self._order()

    def heard(self, node_id: str) -> None:
        """It said something just now."""
        view = self.nodes.get(node_id)
        if view is not None:
            view.seen_at = time.time()
            self.set_status(node_id, "alive")

    def set_status(self, node_id: str, status: str) -> None:
        view = self.nodes.get(node_id)
        if view is not None and view.status != status:
            view.status = status
            self.changed("nodes", "instances", "jobs")

    def forget(self, node_id: str) -> None:
        if self.nodes.pop(node_id, None) is not None:
            self.changed("nodes", "instances", "jobs")

    def put_snapshot(self, event: Event, endpoint: str, relation: str) -> NodeView:
        """A node's own account of itself, whole. What was measured of models that still run is kept."""
        assert event.node is not None
        view = self._view(event.node.id)
        view.name, view.info, view.endpoint = event.node.name, event.node, endpoint
        view.devices = event.node.devices or view.devices
        view.instances = {one.model_uid: one for one in event.instances or ()}
        view.jobs = {job.id: job for job in event.jobs or ()}
        view.relation, view.status, view.seen_at = relation, "alive", time.time()
        for measured in (view.workers, view.rates, view.ttfts):
            for uid in set(measured) - set(view.instances):
                measured.pop(uid, None)
        if relation == "self":
            self.set_home(view.id)
        self._order()
        self.changed("nodes", "instances", "jobs")
        return view

    def put_event(self, node_id: str, event: Event) -> None:
        """What a node tells of itself."""
        view = self.nodes.get(node_id)
        if view is None:
            return
        match event.type:
            case "instance" if event.instance is not None:
                self._put_instance(view, event.instance)
            case "instance_removed" if event.model_uid is not None:
                for kept in (view.instances, view.workers, view.rates, view.ttfts):
                    kept.pop(event.model_uid, None)
                self.changed("instances")
            case "samples":
                self._put_samples(view, event)
            case "job" if event.job is not None:
                view.jobs[event.job.id] = event.job
                self.changed("jobs")
            case "job_removed" if event.job_id is not None:
                view.jobs.pop(event.job_id, None)
                self.changed("jobs")

    def put_peer(self, peer: Peer, *, followed: bool = False) -> None:
        """What one node tells of another. `followed`: that one is heard itself, so only its place among us counts."""
        view = self._view(peer.id)
        if view.relation != "self":
            view.relation = peer.relation
        if not followed:
            # Only its peers can speak with a paired node, so it is spoken with through the one talked to.
            through = f"{self.link.endpoint}{NODES_PATH}{peer.id}" if peer.relation == "peer" else peer.endpoint
            view.name, view.endpoint, view.addresses = peer.name, through, peer.addresses
            view.status, view.seen_at = peer.status, peer.seen_at or view.seen_at
            if peer.node is not None:
                view.info, view.devices = peer.node, peer.node.devices or view.devices
            if peer.status != "gone":
                view.instances = {one.model_uid: one for one in peer.instances}
        self._order()
        self.changed("nodes", "instances")

    def changed(self, *topics: Topic) -> None:
        """Tell the listeners, all topics of one turn of the loop at once."""
        first = not self._pending
        self._pending |= set(topics)
        if not first:
            return
        try:
            asyncio.get_running_loop().call_soon(self._tell)
        except RuntimeError:
            self._tell()

    # ---- parts

    def _tell(self) -> None:
        topics, self._pending = frozenset(self._pending), set()
        for callback in list(self._listeners):
            callback(topics)

    def _view(self, node_id: str) -> NodeView:
        view = self.nodes.get(node_id)
        if view is None:
            view = self.nodes[node_id] = NodeView(node_id)
        return view

    def _order(self) -> None:
        ordered = sorted(self.nodes.values(), key=lambda view: (_ORDER.get(view.relation, 9), view.name, view.id))
        if [view.id for view in ordered] != list(self.nodes):
            self.nodes = {view.id: view for view in ordered}
            self.changed("nodes")

    def _put_instance(self, view: NodeView, instance: Instance) -> None:
        before = view.instances.get(instance.model_uid)
        view.instances[instance.model_uid] = instance
        answered = before is not None and instance.stats.requests_total > before.stats.requests_total
        if answered and instance.stats.ttft_ms is not None:
            view.ttfts.setdefault(instance.model_uid, deque(maxlen=HISTORY)).append(instance.stats.ttft_ms)
        self.changed("instances")

    def _put_samples(self, view: NodeView, event: Event) -> None:
        if event.devices is not None:
            view.devices = event.devices
        if event.workers is not None:
            view.workers = event.workers
        for uid, instance in view.instances.items():
            rate = instance.stats.tokens_per_second if instance.stats.running else 0.0
            view.rates.setdefault(uid, deque(maxlen=HISTORY)).append(rate)
        self.changed("samples")


def _devices(views: list[NodeView]) -> list[Device]:
    """Each device once: nodes of one host have the same, and a part of a GPU is not counted besides the whole."""
    found: dict[tuple[str, str], Device] = {}
    for view in views:
        host = "" if view.relation in ("self", "local") else view.id
        for device in view.devices:
            if device.parent is None:
                found.setdefault((host, device.id), device)
    return list(found.values())
