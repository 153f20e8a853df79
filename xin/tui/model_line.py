"""What a list says of one running model: its state in a word, its figures as text, its fault in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xin.protocol.node import Instance, WorkerInfo
from xin.tui.glyphs import G
from xin.tui.store import NodeView, Target
from xin.tui.text import ago, bytes_short, clean

UNDER_WAY = frozenset({"downloading", "loading"})
SORTS = ("node", "name", "state", "memory", "speed")
_STATE_ORDER = {"failed": 0, "loading": 1, "downloading": 2, "stopping": 3, "ready": 4}
_STYLES = {
    "ready": "$success",
    "loading": "$accent",
    "downloading": "$accent",
    "stopping": "$warning",
    "failed": "$error",
    "gone": "$foreground-muted",
}


@dataclass(frozen=True, slots=True)
class ModelLine:
    """`state` is the instance's, or gone with its node. `stale`: the figures are those of before its node went."""

    target: Target
    node_name: str
    uid: str
    quantization: str
    devices: tuple[str, ...]
    state: str
    stale: bool
    memory_bytes: int
    context_length: int
    running: int
    waiting: int
    slots: int
    speed: float
    progress: float
    stage: str
    cause: str
    endpoint: str

    @classmethod
    def of(cls, view: NodeView, instance: Instance) -> ModelLine:
        worker = view.workers.get(instance.model_uid) or instance.worker
        stats = instance.stats
        return cls(
            target=Target(view.id, instance.model_uid),
            node_name=clean(view.name or view.id[:8]),
            uid=clean(instance.model_uid),
            quantization="" if instance.quantization == "none" else clean(instance.quantization),
            devices=tuple(sorted(worker.gpu_bytes)),
            state="gone" if view.status == "gone" else instance.state,
            stale=view.status == "gone",
            memory_bytes=memory_of(instance, worker),
            context_length=instance.context_length,
            running=stats.running,
            waiting=stats.waiting,
            slots=instance.n_parallel,
            speed=stats.tokens_per_second if stats.running else 0.0,
            progress=instance.progress,
            stage=clean(instance.stage),
            cause=clean(instance.cause or ""),
            endpoint=view.endpoint or "",
        )

    @property
    def glyph(self) -> str:
        return glyph_of(self.state)

    @property
    def style(self) -> str:
        return "$foreground-muted" if self.stale else _STYLES.get(self.state, "$foreground-muted")

    @property
    def under_way(self) -> bool:
        return self.state in UNDER_WAY

    @property
    def where(self) -> str:
        """atlas:0, atlas:0,1, or atlas alone for a model on the host's CPU."""
        numbers = ",".join(device_number(device) for device in self.devices)
        return f"{self.node_name}:{numbers}" if numbers else self.node_name

    @property
    def memory(self) -> str:
        return bytes_short(self.memory_bytes) if self.memory_bytes else G.none

    @property
    def context(self) -> str:
        return tokens_short(self.context_length) if self.context_length else G.none

    @property
    def requests(self) -> str:
        """Running of those that it takes at once, and how many wait."""
        return f"{self.running}/{self.slots}" + (f"+{self.waiting}" if self.waiting else "")

    @property
    def tokens_per_second(self) -> str:
        return f"{self.speed:.1f}" if self.speed else G.none

    def matches(self, wanted: str) -> bool:
        """Every word of `wanted` is somewhere in it."""
        text = f"{self.uid} {self.quantization} {self.where} {self.state} {self.cause}".lower()
        return all(word in text for word in wanted.lower().split())


def model_lines(nodes: Iterable[NodeView], *, wanted: str = "", sort: str = "node") -> list[ModelLine]:
    """All models of all nodes, in the nodes' order or sorted."""
    lines = [ModelLine.of(view, instance) for view in nodes for instance in view.instances.values()]
    lines = [line for line in lines if line.matches(wanted)]
    match sort:
        case "name":
            lines.sort(key=lambda line: line.uid.lower())
        case "state":
            lines.sort(key=lambda line: _STATE_ORDER.get(line.state, 9))
        case "memory":
            lines.sort(key=lambda line: -line.memory_bytes)
        case "speed":
            lines.sort(key=lambda line: -line.speed)
    return lines


def glyph_of(state: str) -> str:
    glyphs = {
        "ready": G.ready,
        "downloading": G.run,
        "loading": G.run,
        "stopping": G.pause,
        "failed": G.fail,
        "gone": G.gone,
    }
    return glyphs.get(state, " ")


def memory_of(instance: Instance, worker: WorkerInfo) -> int:
    """What it holds now: on its accelerators if it has any there, else in RAM; else what it took when it loaded."""
    if worker.gpu_bytes:
        return sum(worker.gpu_bytes.values())
    return worker.rss_bytes or sum(instance.memory_bytes.values())


def device_number(device_id: str) -> str:
    """cuda:0 is 0; what has no number keeps its name."""
    return device_id.partition(":")[2] or device_id


def tokens_short(count: int) -> str:
    """32768 is 32k; 1048576 is 1M."""
    if count >= 2**20:
        return f"{count / 2**20:.3g}M"
    return f"{count // 1024}k" if count >= 1024 else str(count)


def age_text(view: NodeView, now: float) -> str:
    """Of a node that is silent: since when."""
    seconds = max(now - view.seen_at, 0.0)
    if view.status == "slow":
        return f"slow {seconds:.1f}s" if seconds < 10 else f"slow {ago(seconds)}"
    return f"last seen {ago(seconds)} ago"
