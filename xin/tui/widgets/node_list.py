"""The nodes, each with a memory bar per accelerator and one for RAM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from rich.cells import cell_len
from textual.content import Content

from xin.protocol.node import Device
from xin.tui.glyphs import G, is_ascii
from xin.tui.model_line import age_text, device_number
from xin.tui.store import NodeView
from xin.tui.text import ago, clean, fit
from xin.tui.widgets.bars import memory_bar
from xin.tui.widgets.row_list import Row, RowList

GIB = 2**30
NODE_PREFIX = "node/"
_GLYPH_STYLES = {"alive": "$success", "slow": "$warning", "gone": "$foreground-muted"}


class NodeList(RowList):
    """`show` what the store holds. The cursor moves from node to node; their devices come along."""

    HELP = "Nodes: this one first, then those of this host, paired ones, and those only found."

    def show(self, nodes: Sequence[NodeView], now: float) -> None:
        rows: list[Row] = []
        for view in nodes:
            if rows:
                rows.append(Row(f"{NODE_PREFIX}{view.id}/gap", Content(""), selectable=False))
            rows.append(Row(f"{NODE_PREFIX}{view.id}", node_line(view, self.room, now)))
            for device in view.devices:
                line = device_line(device, self.room, stale=view.status == "gone")
                rows.append(Row(f"{NODE_PREFIX}{view.id}/{device.id}", line, selectable=False))
        self.set_rows(rows)


def node_line(view: NodeView, width: int, now: float) -> Content:
    """Glyph, name, address, then what it has and how long it is up; of a silent one its age instead."""
    name, about = clean(view.name or view.id[:8]), _about(view, now, width)
    name_cells = max(min(cell_len(name), 16), 8)
    rest = max(width - name_cells - 4, 0)
    address = address_of(view)
    if view.status != "alive":  # what it is silent for is to be read in full
        address = address.removeprefix("this host ")
        address = fit(address, max(min(cell_len(address), rest - len(about) - 2), 0))
    style = "$foreground-muted" if trusted_and_gone(view) or view.relation == "found" else "bold"
    return Content.assemble(
        (f"{node_glyph(view)} ", node_style(view)),
        (fit(name, name_cells), style),
        (f"  {address}  " if address else "  ", "$foreground-muted"),
        (fit(about, max(rest - cell_len(address) - 2, 0)), node_style(view) if view.status != "alive" else ""),
    )


def device_line(device: Device, width: int, *, stale: bool = False) -> Content:
    """Label, bar, used/total in GiB, load, heat, power. What the driver does not tell is said so."""
    figures = _figures(device, with_power=width >= 42)
    label = fit("RAM" if device.kind == "cpu" else device_number(device.id), 3)
    bar_cells = min(max(width - len(figures) - 7, 4), 24)
    bar = memory_bar(used_bytes(device), device.total_bytes, bar_cells)
    line = Content.assemble(f"  {label} ", bar, f" {figures}")
    return Content.styled(line.plain, "$foreground-muted") if stale else line


def used_bytes(device: Device) -> int:
    return 0 if device.free_bytes is None else max(device.total_bytes - device.free_bytes, 0)


def node_glyph(view: NodeView) -> str:
    if view.relation == "found":
        return G.gone
    return {"alive": G.ready, "slow": G.slow}.get(view.status, G.gone)


def node_style(view: NodeView) -> str:
    if view.relation == "found":
        return "$foreground-muted"
    return _GLYPH_STYLES.get(view.status, "$foreground-muted")


def trusted_and_gone(view: NodeView) -> bool:
    return view.relation != "found" and view.status == "gone"


def address_of(view: NodeView) -> str:
    """Where it is: this node, another of this host by its port, or the other machine's address as it was heard there.

    The endpoint of a paired node says nothing of that: it is the way through the node that is talked to.
    """
    if view.relation == "self":
        return "this node"
    if view.relation == "local":
        port = urlsplit(view.endpoint or "").port
        return f"this host :{port}" if port else "this host"
    host = view.addresses[0] if view.addresses else ""
    lan_port = view.info.lan_port if view.info is not None else None
    if not host or lan_port is None:
        return clean(host)
    return clean(f"[{host}]:{lan_port}" if ":" in host else f"{host}:{lan_port}")


def accelerators(view: NodeView) -> str:
    """2×RTX 4090, or CPU."""
    names = Counter(clean(device.name) for device in view.devices if device.kind != "cpu")
    if not names:
        return "CPU"
    return ", ".join(f"{count}{G.times}{name}" for name, count in names.items())


def _about(view: NodeView, now: float, width: int) -> str:
    if view.relation == "found":
        return "found, not paired"
    if view.status != "alive":
        return age_text(view, now)
    has = accelerators(view)
    if view.info is None or not view.info.started_at or cell_len(has) > width - 31:
        return has
    return f"{has}  up {ago(now - view.info.started_at)}"


def _figures(device: Device, *, with_power: bool) -> str:
    total = device.total_bytes / GIB
    decimals = 1 if total < 100 else 0
    used = f"{used_bytes(device) / GIB:.{decimals}f}" if device.free_bytes is not None else "n/a"
    memory = f"{used:>5}/{total:.{decimals}f}G"
    load = f"{device.utilization:.0f}%" if device.utilization is not None else G.none
    figures = f"{memory:<11} {load:>4}"
    if device.kind == "cpu":
        return figures.ljust(len(figures) + (10 if with_power else 5))
    degree = "C" if is_ascii() else "°C"
    heat = f"{device.temperature:.0f}{degree}" if device.temperature is not None else G.none
    power = f"{device.power:.0f}W" if device.power is not None else G.none
    return f"{figures} {heat:>4}" + (f" {power:>4}" if with_power else "")
