"""All that is known of a node or of one of its models, to read and to copy."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from xin.protocol.command import launch_command
from xin.protocol.node import Instance
from xin.tui.dialogs.dialog import Dialog
from xin.tui.model_actions import relaunch_request
from xin.tui.store import NodeView
from xin.tui.text import bytes_short, clean, fit
from xin.tui.widgets.node_list import address_of

LABEL = 18
MOST_CHARACTERS = 300
Facts = Iterator[tuple[str, object]]


class Details(Dialog[None]):
    """The command is the launch that would make the model again; of a node, the one that tells the same."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "close", "close", id="details.close", show=False, tooltip="Close"),
    ]
    DEFAULT_CSS = """
    Details > #dialog {
        width: 100;
    }
    Details #details-facts {
        height: auto;
        max-height: 24;
    }
    Details #dialog-command {
        max-height: 4;
    }
    """

    def __init__(self, node: NodeView, instance: Instance | None) -> None:
        name = instance.model_uid if instance is not None else node.name or node.id[:8]
        if instance is not None:
            command = launch_command(relaunch_request(instance, known=True))
        else:
            command = f"xin nodes -e {shlex.quote(node.endpoint)}" if node.endpoint else "xin nodes"
        super().__init__(name, command=command, keys="up down scroll   esc close")
        self._facts = list(model_facts(instance) if instance is not None else node_facts(node))

    def body(self) -> ComposeResult:
        with VerticalScroll(id="details-facts"):
            yield Static(
                Content("\n").join(_line(label, value) for label, value in self._facts if value not in ("", None))
            )


def model_facts(instance: Instance) -> Facts:
    yield "uid", instance.model_uid
    yield "model", instance.model_name
    yield "state", instance.state
    yield "cause", instance.cause
    yield "hint", instance.hint
    yield "engine", instance.model_engine
    yield "format", f"{instance.model_format} {instance.quantization}".strip()
    yield "context", f"{instance.context_length} tokens, {instance.n_parallel} requests at once"
    yield "abilities", ", ".join(instance.model_ability)
    yield "node", instance.node
    yield "placed", instance.placed
    yield "divided", ", ".join(f"{part.layers} layers on {part.node}" for part in instance.shards)
    yield "launched", _at(instance.launched_at) + ("" if instance.explicit else ", on demand")
    yield "pinned", "yes" if instance.pinned else ""
    yield "ready in", f"{instance.load_seconds:.1f} s" if instance.load_seconds else ""
    yield "keep alive", _keep_alive(instance.keep_alive)
    yield "memory", ", ".join(f"{part} {bytes_short(size)}" for part, size in instance.memory_bytes.items())
    yield "process", f"{instance.worker.pid}, {instance.worker.threads} threads" if instance.worker.pid else ""
    yield "restarts", instance.worker.restarts or ""
    yield "answered", f"{instance.stats.requests_total} requests, {instance.stats.tokens_total} tokens"
    for name, value in instance.options.items():
        yield name, value
    for name, advised in instance.sampling.items():
        yield name, f"{advised:g} unless a request says otherwise"
    for path in instance.weights:
        yield "weights", path
    for note in instance.notes:
        yield "note", note


def node_facts(node: NodeView) -> Facts:
    yield "id", node.id
    yield "name", node.name
    yield "relation", node.relation
    yield "status", node.status
    yield "reached through" if node.relation == "peer" else "endpoint", node.endpoint
    yield "address", address_of(node) if node.relation == "peer" else ""
    yield "addresses", ", ".join(node.addresses)
    info = node.info
    if info is None:
        return
    yield "version", info.version
    yield "process", info.pid
    yield "started", _at(info.started_at)
    yield "platform", info.platform
    yield "CPU threads", info.cpu_threads
    yield "private", "yes" if info.private else ""
    for device in node.devices:
        yield device.id, f"{device.name}, {bytes_short(device.total_bytes)} {device.driver or ''} {device.note or ''}"
    for engine in info.engines:
        missing = f"not installed, lacks {', '.join(engine.missing)}"
        yield (
            engine.name,
            f"{engine.version or 'installed'}, {', '.join(engine.formats)}" if engine.installed else missing,
        )


def _line(label: str, value: object) -> Content:
    return Content.assemble((fit(clean(label), LABEL), "$foreground-muted"), clean(str(value))[:MOST_CHARACTERS])


def _keep_alive(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return "for ever" if seconds < 0 else f"{seconds:g} s after the last request"


def _at(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
