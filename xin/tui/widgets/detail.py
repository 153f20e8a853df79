"""What is to be known about the row under the cursor: figures over time, and the last lines of its log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from xin.protocol.node import Instance, LogLine
from xin.tui.glyphs import G
from xin.tui.model_line import ModelLine, tokens_short
from xin.tui.store import NODES_PATH, NodeView
from xin.tui.text import ago, bytes_short, clean, fit
from xin.tui.widgets.bars import memory_bar, progress_bar
from xin.tui.widgets.node_list import address_of
from xin.tui.widgets.row_list import clip
from xin.tui.widgets.spark import spark
from xin.tui.widgets.titles import set_title

LABEL = 8
LEVEL_STYLES = {"error": "$error", "warning": "$warning"}
RELATIONS = {
    "self": "the node this workbench talks to",
    "local": "another node of yours on this host",
    "found": "found on the network, not paired",
    "peer": "paired",
}


class Detail(Static):
    """`show_*` draws; an equal picture is not drawn again."""

    @dataclass
    class Resized(Message):
        """It has another room to fill."""

        detail: Detail

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._drawn = Content("")

    @property
    def text(self) -> str:
        return self._drawn.plain

    def show_model(
        self, view: NodeView, instance: Instance, logs: Sequence[LogLine], *, now: float, narrow: bool = False
    ) -> None:
        line = ModelLine.of(view, instance)
        width, height = self._room()
        make = _model_narrow if narrow else _model_wide
        lines = make(line, view, instance, width, now)
        self._draw(f"{line.uid} @ {line.where}", lines + log_lines(logs, width, height - len(lines)))

    def show_node(self, view: NodeView, *, now: float) -> None:
        width, _ = self._room()
        self._draw(clean(view.name or view.id[:8]), node_lines(view, width, now))

    def show_text(self, title: str, lines: Sequence[str]) -> None:
        self._draw(title, [Content.styled(line, "$foreground-muted") for line in lines])

    def on_resize(self, event: events.Resize) -> None:
        self.post_message(self.Resized(self))

    def _draw(self, title: str, lines: list[Content]) -> None:
        set_title(self, title)
        content = Content("\n").join(lines)
        if not content.is_same(self._drawn):
            self._drawn = content
            self.update(content, layout=False)

    def _room(self) -> tuple[int, int]:
        size = self.content_size
        return max(size.width, 20), max(size.height, 1)


def log_lines(logs: Sequence[LogLine], width: int, height: int) -> list[Content]:
    """The last that fit."""
    if height < 1 or not logs:
        return []
    lines = []
    for index, line in enumerate(logs[-height:]):
        at = time.strftime("%H:%M:%S", time.localtime(line.at))
        level = line.level.lower()
        lines.append(
            Content.assemble(
                (fit("log" if index == 0 else "", LABEL), "$foreground-muted"),
                (f"{at} ", "$foreground-muted"),
                (fit(level.upper(), 8), LEVEL_STYLES.get(level, "$foreground-muted")),
                fit(clean(line.message), max(width - LABEL - 17, 0)),
            )
        )
    return lines


def node_lines(view: NodeView, width: int, now: float) -> list[Content]:
    info = view.info
    status = {"slow": "slow to answer", "gone": f"gone, last seen {ago(now - view.seen_at)} ago"}
    head = f"{RELATIONS.get(view.relation, view.relation)}  {status.get(view.status, '')}"
    lines = [_labelled("node", head.rstrip(), width)]
    if view.relation == "found":
        lines.append(_labelled("", "Nothing of it is trusted or used until it is paired: P pairs it.", width))
        return lines
    where = address_of(view) if view.relation == "peer" else f"{view.endpoint or G.none}   {address_of(view)}"
    lines.append(_labelled("url", where or G.none, width))
    if info is not None:
        started = f"up {ago(now - info.started_at)}" if info.started_at else ""
        lines.append(_labelled("host", f"{clean(info.platform)}  xin {clean(info.version)}  {started}", width))
    for device in view.devices:
        facts = [device.id, clean(device.name), bytes_short(device.total_bytes)]
        facts += [f"driver {clean(device.driver)}"] if device.driver else []
        facts += [f"{device.cores:g} cores"] if device.cores else []
        facts += [f"limit {device.power_limit:.0f}W"] if device.power_limit else []
        facts += [clean(device.note)] if device.note else []
        lines.append(_labelled("device", "  ".join(facts), width))
    for engine in info.engines if info is not None else ():
        words = (
            f"{engine.version or ''}".strip()
            if engine.installed
            else f"not installed: xin engines install {engine.name}"
        )
        glyph = G.done if engine.installed else G.waiting
        lines.append(_labelled("engine", f"{glyph} {clean(engine.name)} {clean(words)}", width))
    speed = sum(instance.stats.tokens_per_second for instance in view.instances.values() if instance.stats.running)
    ready = sum(instance.state == "ready" for instance in view.instances.values())
    lines.append(_labelled("models", f"{ready} ready of {len(view.instances)}  {speed:.0f} tok/s", width))
    return lines


def _model_wide(line: ModelLine, view: NodeView, instance: Instance, width: int, now: float) -> list[Content]:
    lines = [_identity(line, instance, width), _labelled("url", _openai_url(view), width)]
    if line.state == "failed" or line.cause:
        lines += _fault(line, instance, width)
    if line.under_way:
        lines.append(_loading(line, width))
    if line.state == "failed":
        return lines
    lines += _whereabouts(instance, width)
    lines.append(_memory(line, view, instance, width))
    lines.append(_load(line, instance, width))
    return lines + _histories(line, view, instance, width)


def _model_narrow(line: ModelLine, view: NodeView, instance: Instance, width: int, now: float) -> list[Content]:
    lines = [_identity(line, instance, width)]
    if line.state == "failed" or line.cause:
        return lines + _fault(line, instance, width)
    if line.under_way:
        return [*lines, _loading(line, width)]
    stats = instance.stats
    facts = [
        _openai_url(view),
        f"wait {stats.waiting}",
        _kv_percent(instance),
        _ttft_text(view, line.target.uid),
    ]
    lines.append(Content(fit("  ".join(fact for fact in facts if fact), width)))
    return lines + _histories(line, view, instance, width)[:1]


def _whereabouts(instance: Instance, width: int) -> list[Content]:
    """Why it is on its node, and which nodes hold a part of it."""
    parts = ", ".join(f"{part.layers} layers on {clean(part.node)}" for part in instance.shards)
    told = (("placed", clean(instance.placed)), ("parts", parts))
    return [_labelled(label, text, width) for label, text in told if text]


def _openai_url(view: NodeView) -> str:
    """What an OpenAI client is pointed at: the node itself, or the one through which a paired one is reached."""
    return f"{(view.endpoint or G.none).partition(NODES_PATH)[0]}/v1"


def _identity(line: ModelLine, instance: Instance, width: int) -> Content:
    started = time.strftime("%H:%M", time.localtime(instance.launched_at)) if instance.launched_at else ""
    facts = [line.quantization, clean(instance.model_format), clean(instance.model_engine)]
    facts += [clean(instance.model_name)] if instance.model_name != instance.model_uid else []
    facts += [f"ctx {tokens_short(instance.context_length)}"] if instance.context_length else []
    facts += [f"started {started}"] if started else []
    facts += [f"loaded in {instance.load_seconds:.1f}s"] if instance.load_seconds else []
    head = Content.assemble((line.uid, "bold"), "  ", (f"{line.glyph} {line.state}", line.style), "  ")
    said = dict.fromkeys(fact for fact in facts if fact)
    return clip(Content.assemble(head, "  ".join(said)), width)


def _fault(line: ModelLine, instance: Instance, width: int) -> list[Content]:
    lines = [_labelled("why", f"{G.fail} {line.cause or 'no cause is known'}", width, "$error")]
    if instance.hint:
        lines.append(_labelled("try", clean(instance.hint), width))
    if line.state == "failed":
        lines.append(_labelled("keys", "r restart   L log   l launch another   x remove", width))
    return lines


def _loading(line: ModelLine, width: int) -> Content:
    text = f" {line.progress:.0%} {line.stage or line.state}"
    bar = min(max(width - LABEL - len(text), 10), 40)
    return Content.assemble((fit(line.state[:4], LABEL), "$foreground-muted"), progress_bar(line.progress, bar), text)


def _memory(line: ModelLine, view: NodeView, instance: Instance, width: int) -> Content:
    worker = view.workers.get(instance.model_uid) or instance.worker
    parts = [f"{clean(device)} {bytes_short(size)}" for device, size in sorted(worker.gpu_bytes.items())]
    parts += [f"RAM {bytes_short(worker.rss_bytes)}"] if worker.rss_bytes else []
    parts += [f"{clean(part)} {bytes_short(size)}" for part, size in instance.memory_bytes.items() if size]
    return _labelled("mem", "   ".join(parts) or G.none, width)


def _load(line: ModelLine, instance: Instance, width: int) -> Content:
    stats = instance.stats
    text = f"{stats.running} running  {stats.waiting} waiting  of {line.slots}   {stats.requests_total} answered so far"
    if not stats.kv_total:
        return _labelled("load", text, width)
    bar = memory_bar(stats.kv_used, stats.kv_total, 12)
    used = f" {tokens_short(stats.kv_used)}/{tokens_short(stats.kv_total)}"
    return Content.assemble(_labelled("load", text, min(len(text) + LABEL, width)), "   kv ", bar, used)


def _histories(line: ModelLine, view: NodeView, instance: Instance, width: int) -> list[Content]:
    """Tokens/s and time to the first token, newest at the right."""
    rates = list(view.rates.get(line.target.uid, ()))
    ttfts = list(view.ttfts.get(line.target.uid, ()))
    cells = min(max(width - LABEL - 26, 8), 120)
    peak = max(rates, default=0.0)
    line_of_rates = spark(rates, cells) if peak else " " * cells  # an idle model's line would crawl, and cost a repaint
    stats = instance.stats
    unknown = " idle" if stats.requests_total else " no request yet"
    speed = f" {line.speed:.1f} now  {peak:.0f} peak" if peak else unknown
    last = f" last {milliseconds(stats.ttft_ms)}" if stats.ttft_ms is not None else unknown
    first = f" {_percentiles(ttfts)}" if ttfts else last
    return [
        Content.assemble((fit("tok/s", LABEL), "$foreground-muted"), (line_of_rates, "$accent"), speed),
        Content.assemble((fit("ttft", LABEL), "$foreground-muted"), (spark(ttfts, cells), "$accent"), first),
    ]


def _percentiles(ttfts: Sequence[float]) -> str:
    ordered = sorted(ttfts)
    half, most = ordered[len(ordered) // 2], ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return f"p50 {milliseconds(half)} p95 {milliseconds(most)}"


def milliseconds(value: float) -> str:
    return f"{value:.0f}ms" if value < 1000 else f"{value / 1000:.1f}s"


def _ttft_text(view: NodeView, uid: str) -> str:
    ttfts = view.ttfts.get(uid)
    return f"ttft {_percentiles(list(ttfts))}" if ttfts else ""


def _kv_percent(instance: Instance) -> str:
    stats = instance.stats
    return f"kv {stats.kv_used / stats.kv_total:.0%}" if stats.kv_total else ""


def _labelled(label: str, text: str, width: int, style: str = "") -> Content:
    return Content.assemble(
        (fit(label, LABEL), "$foreground-muted"), (fit(text, max(width - LABEL, 1)).rstrip(), style)
    )
