"""Nodes, their devices and their models in one tree: what narrow terminals show instead of two tables."""

from __future__ import annotations

from collections.abc import Sequence, Set

from textual.binding import Binding
from textual.content import Content

from xin.tui.glyphs import G
from xin.tui.model_line import ModelLine, age_text, device_number
from xin.tui.store import NodeView, Target
from xin.tui.text import bytes_short, clean, fit
from xin.tui.widgets.bars import memory_bar
from xin.tui.widgets.model_table import key_of, progress_of, state_cells
from xin.tui.widgets.node_list import (
    NODE_PREFIX,
    accelerators,
    address_of,
    device_line,
    node_glyph,
    node_style,
    used_bytes,
)
from xin.tui.widgets.row_list import Row, RowList, clip

_BAR = 12


class FleetTree(RowList):
    """`show` nodes and lines. Left and right close and open the cursor's node."""

    HELP = "Nodes with their devices and models. Left closes a node, right opens it."
    BINDINGS = [
        Binding("left", "fold(True)", "Close", id="tree.close", show=False, tooltip="Close the node"),
        Binding("right", "fold(False)", "Open", id="tree.open", show=False, tooltip="Open the node"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._folded: set[str] = set()
        self._shown: tuple[Sequence[NodeView], Sequence[ModelLine], Set[Target], float] = ((), (), frozenset(), 0.0)

    def show(self, nodes: Sequence[NodeView], lines: Sequence[ModelLine], marked: Set[Target], now: float) -> None:
        self._shown = nodes, lines, marked, now
        rows: list[Row] = []
        for view in nodes:
            folded = view.id in self._folded
            models = [line for line in lines if line.target.node_id == view.id]
            rows.append(Row(f"{NODE_PREFIX}{view.id}", self._node(view, len(models), folded, now)))
            if not folded:
                rows += self._parts(view, models, marked)
        self.set_rows(rows)

    def action_fold(self, folded: bool) -> None:
        """On a model's row: of its node."""
        node_id = self.key.removeprefix(NODE_PREFIX).partition("\t")[0].partition("/")[0]
        (self._folded.add if folded else self._folded.discard)(node_id)
        self.move_to(f"{NODE_PREFIX}{node_id}") if folded else None
        self.show(*self._shown)

    def _node(self, view: NodeView, models: int, folded: bool, now: float) -> Content:
        width = self.room
        arrow = (G.closed if folded else G.open) if view.devices or models else " "
        parts = [(f"{node_glyph(view)} ", node_style(view)), (clean(view.name or view.id[:8]), "bold")]
        left = Content.assemble(f"{arrow} ", *parts, (f" {_summary(view)}", "$foreground-muted"))
        if view.status == "alive" and view.relation != "found":
            right = _memory(view)
        else:
            text = "found, not paired" if view.relation == "found" else age_text(view, now)
            right = Content.styled(text, node_style(view))
        return _ends(left, right, width)

    def _parts(self, view: NodeView, models: Sequence[ModelLine], marked: Set[Target]) -> list[Row]:
        stale = view.status == "gone"
        rows = [
            Row(
                f"{NODE_PREFIX}{view.id}/{device.id}",
                Content("  ") + device_line(device, self.room - 2, stale=stale),
                selectable=False,
            )
            for device in view.devices
        ]
        for line in models:
            rows.append(Row(key_of(line.target), _model(line, self.room), marked=line.target in marked))
        return rows


def _model(line: ModelLine, width: int) -> Content:
    name = min(max(width - 50, 12), 28)
    head = Content.assemble(
        "    ", (fit(line.uid, name), "$foreground-muted" if line.stale else "bold"), " ", state_cells(line)
    )
    rest = width - head.cell_length - 1
    if line.state == "failed":
        return Content.assemble(
            head, " ", (fit(line.cause or "no cause is known", rest - 4), "$error"), (" [L]", "$foreground-muted")
        )
    if line.under_way:
        return Content.assemble(head, " ", progress_of(line, rest))
    speed = f"{line.speed:.0f} t/s" if line.speed else G.none
    numbers = ":" + ",".join(map(device_number, line.devices)) if line.devices else ""
    figures = f"{line.memory:>6} {line.context:>5} {line.requests:>6}  {speed:>8}  {numbers}"
    return Content.assemble(head, " ", (fit(figures, rest), "$foreground-muted" if line.stale else ""))


def _summary(view: NodeView) -> str:
    if view.relation == "found":
        return address_of(view)
    return f"{accelerators(view)}  {address_of(view)}"


def _memory(view: NodeView) -> Content:
    """Of the accelerators together; of RAM where there are none."""
    devices = [device for device in view.devices if device.kind != "cpu"] or list(view.devices)
    used, total = sum(map(used_bytes, devices)), sum(device.total_bytes for device in devices)
    if not total:
        return Content("")
    return Content.assemble(f"{bytes_short(used)}/{bytes_short(total)} ", memory_bar(used, total, _BAR))


def _ends(left: Content, right: Content, width: int) -> Content:
    """One at either end; the left one gives way."""
    room = max(width - right.cell_length - 1, 0)
    left = clip(left, room)
    return Content.assemble(left, " " * max(width - left.cell_length - right.cell_length, 1), right)
