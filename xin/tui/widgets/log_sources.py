"""Whose lines are shown: all, or some of the models, each with how many lines and errors it has."""

from __future__ import annotations

from collections.abc import Sequence

from textual.binding import Binding
from textual.content import Content

from xin.tui.glyphs import G
from xin.tui.log_book import LogBook
from xin.tui.store import Store, Target
from xin.tui.text import clean, fit
from xin.tui.widgets.row_list import Row, RowList

ALL = "all"


class LogSources(RowList):
    """`show` what there is. Space toggles a source, enter shows it alone; on `all`, both show everything."""

    HELP = "Space shows or hides a source, enter shows it alone."
    BINDINGS = [
        Binding("space", "screen.toggle_source", "toggle", id="logs.toggle_source", tooltip="Show or hide this source"),
        Binding("enter", "screen.only_source", "only this", id="logs.only_source", tooltip="Show this source alone"),
    ]

    @property
    def target(self) -> Target | None:
        """None stands for all."""
        node_id, tab, uid = self.key.partition("\t")
        return Target(node_id, uid) if tab else None

    def show(self, store: Store, book: LogBook) -> None:
        targets = sources(store, book)
        rows = [Row(ALL, _line("all (merged)", len(book.lines), 0, book.sources is None, self.room))]
        node_id = ""
        for target in targets:
            if target.node_id != node_id:
                node_id = target.node_id
                rows.append(Row(f"node {node_id}", _heading(store, node_id), selectable=False))
            chosen = book.sources is not None and target in book.sources
            counts = book.counts[target], book.errors[target]
            rows.append(
                Row(f"{target.node_id}\t{target.uid}", _line(f"  {clean(target.uid)}", *counts, chosen, self.room))
            )
        self.set_rows(rows)


def sources(store: Store, book: LogBook) -> Sequence[Target]:
    """The instances that are there, then those that are gone but have lines; by node."""
    order = list(store.nodes)
    known = dict.fromkeys([*store.targets(ready_only=False), *(target for target, n in book.counts.items() if n)])
    return sorted(known, key=lambda one: (order.index(one.node_id) if one.node_id in order else len(order), one.uid))


def _heading(store: Store, node_id: str) -> Content:
    view = store.node(node_id)
    return Content.styled(clean(view.name if view is not None else node_id), "$foreground-muted")


def _line(name: str, count: int, errors: int, chosen: bool, width: int) -> Content:
    tail = f" {errors}!" if errors else f" {count}"
    mark = Content.styled(f"{G.ready} " if chosen else "  ", "$accent")
    return Content.assemble(
        mark, fit(name, max(width - len(tail) - 2, 4)), (tail, "$error" if errors else "$foreground-muted")
    )
