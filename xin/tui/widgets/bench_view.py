"""What the Bench shows, laid out for the terminal's width: two tables or one tree, the detail, the jobs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from xin.errors import XinError
from xin.protocol.node import LocalModel, LogLine, Recommendation
from xin.tui.glyphs import G
from xin.tui.model_line import ModelLine, model_lines
from xin.tui.store import TOPICS, NodeView, Store, Target
from xin.tui.text import clean
from xin.tui.widgets.detail import Detail
from xin.tui.widgets.fleet_tree import FleetTree
from xin.tui.widgets.jobs_strip import JobsStrip, current_jobs
from xin.tui.widgets.launchables import Launchables
from xin.tui.widgets.model_table import ModelTable, empty_text, target_of
from xin.tui.widgets.node_list import NODE_PREFIX, NodeList
from xin.tui.widgets.row_list import Row, RowList
from xin.tui.widgets.titles import set_title

if TYPE_CHECKING:
    from xin.client import AsyncClient

DRAW_SECONDS = 0.25
SAMPLES_SECONDS = 1.0
AGE_SECONDS = 1.0
LOG_DELAY_SECONDS = 0.15
LOG_RETRY_SECONDS = 2.0
LOG_LINES = 60
_NODE_KEYS = "s  start one here     a  add one by its address"
OFFER = "launchables-list"
_READINGS = frozenset({"samples"})
_PANELS = frozenset({"nodes", "tree", "models-box", "jobs"})


class Panel(Vertical):
    """A frame around several widgets that can be zoomed as one."""

    ALLOW_MAXIMIZE = True


class BenchView(Vertical):
    """Draws the store at most four times a second. `client`: of a node by its id.

    `filter`, `sort` and `marked` are set by the screen.
    """

    def __init__(self, store: Store, client: Callable[[str], AsyncClient], *, readonly: bool = False) -> None:
        super().__init__()
        self.store = store
        self._client = client
        self.filter = ""
        self.sort = "node"
        self.marked: set[Target] = set()
        self.launchables: list[LocalModel] | None = None
        self.recommended: list[Recommendation] = []
        self._readonly = readonly
        self._log: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._log_of: Target | None = None
        self._driver = OFFER
        self._drawn_at = 0.0
        self._draw_due = 0.0
        self._draw_timer: Timer | None = None
        self._age_timer: Timer | None = None
        self._awake = False
        self._drawn_shape: tuple[bool, bool] | None = None

    def compose(self) -> ComposeResult:
        with Container(id="fleet"):
            yield NodeList(id="nodes")
            yield FleetTree(id="tree")
            with Panel(id="models-box"):
                yield ModelTable(id="models")
                yield Launchables(id="launchables")
                yield Input(placeholder="filter: words of the name, node, state or cause", id="filter")
        yield Detail(id="detail")
        yield JobsStrip(id="jobs")

    def on_mount(self) -> None:
        self._age_timer = self.set_interval(AGE_SECONDS, self.draw, pause=True)

    # -- what the cursor is on

    @property
    def main_list(self) -> RowList:
        """The list that has the cursor: models, the tree in a narrow terminal, or what can be launched."""
        if not self.has_class("-empty"):
            return self.query_one("#tree" if self._narrow else "#models", RowList)
        return self.query_one(Launchables).list

    @property
    def driver(self) -> RowList:
        """The list whose cursor the detail and the keys follow."""
        return self.query_one(f"#{self._driver}", RowList)

    @property
    def jobs(self) -> JobsStrip:
        return self.query_one(JobsStrip)

    @property
    def filter_input(self) -> Input:
        return self.query_one("#filter", Input)

    @property
    def target(self) -> Target | None:
        """The model under the cursor."""
        return target_of(self.driver.key) if self._driver != OFFER else None

    @property
    def targets(self) -> list[Target]:
        """The marked models, else the one under the cursor."""
        if self.marked:
            lines = model_lines(self.store.nodes.values())
            return [line.target for line in lines if line.target in self.marked]
        return [self.target] if self.target is not None else []

    @property
    def offered(self) -> LocalModel | None:
        """What the empty Bench would launch."""
        return self.query_one(Launchables).chosen if self.has_class("-empty") and not self._readonly else None

    @property
    def node_id(self) -> str:
        """The node under the cursor, or that of the model there, or the one talked to."""
        key = self.driver.key
        if key.startswith(NODE_PREFIX):
            return key.removeprefix(NODE_PREFIX)
        return self.target.node_id if self.target is not None else next(iter(self.store.nodes), "")

    # -- drawing

    def wake(self) -> None:
        """It can be seen now."""
        self._awake = True
        self.draw()
        self._follow()

    def rest(self) -> None:
        """It cannot be seen: draw nothing and follow no log."""
        self._awake = False
        self._log_of = None
        self.workers.cancel_group(self, "log")
        if self._age_timer is not None:
            self._age_timer.pause()

    def changed(self, topics: frozenset[str] = TOPICS) -> None:
        """The store has news: draw soon, but not too often; readings of several nodes are drawn together."""
        if not self._awake:
            return
        due = self._drawn_at + (SAMPLES_SECONDS if topics <= _READINGS else DRAW_SECONDS)
        if self._draw_timer is not None:
            if due >= self._draw_due:
                return
            self._draw_timer.stop()
            self._draw_timer = None
        wait, self._draw_due = due - time.monotonic(), due
        if wait > 0:
            self._draw_timer = self.set_timer(wait, self.draw)
        else:
            self.draw()

    def draw(self) -> None:
        if not self.is_mounted or not self._awake:
            return
        if self._draw_timer is not None:
            self._draw_timer.stop()
            self._draw_timer = None
        self._drawn_at = time.monotonic()
        now, nodes = time.time(), list(self.store.nodes.values())
        everything = model_lines(nodes)
        self.marked &= {line.target for line in everything}
        self.set_class(not everything, "-empty")
        with self.app.batch_update():
            plain = not self.filter and self.sort == "node"
            lines = everything if plain else model_lines(nodes, wanted=self.filter, sort=self.sort)
            self._draw_lists(nodes, lines, now)
            self._draw_launchables(nodes, empty=not everything)
            self._draw_jobs(nodes, now)
            self._keep_focus()
            self._draw_detail(now)
        if self._age_timer is not None:
            silent = any(view.status != "alive" for view in nodes if view.relation != "found")
            self._age_timer.resume() if silent else self._age_timer.pause()

    @property
    def _narrow(self) -> bool:
        return self.screen.has_class("-narrow")

    def _draw_lists(self, nodes: list[NodeView], lines: list[ModelLine], now: float) -> None:
        if self._narrow:
            tree = self.query_one(FleetTree)
            tree.show(nodes, lines, self.marked, now)
            set_title(tree, "Nodes, devices, models" + self._selection(), self._hint(len(lines)))
            return
        listed, models = self.query_one(NodeList), self.query_one(ModelTable)
        listed.show(nodes, now)
        models.show(lines, self.marked)
        if not lines:
            models.set_rows([Row("", Content.styled(empty_text(self.filter), "$foreground-muted"), selectable=False)])
        set_title(listed, f"Nodes {len(nodes)}", "a add by address")
        set_title(self.query_one("#models-box"), f"Models {len(lines)}" + self._selection(), self._hint(len(lines)))

    def _selection(self) -> str:
        """What narrows or orders the list, in words."""
        parts = [f"filter: {self.filter}"] if self.filter else []
        parts += [f"sorted by {self.sort}"] if self.sort != "node" else []
        parts += [f"{len(self.marked)} marked"] if self.marked else []
        return "".join(f"  ({part})" for part in parts)

    def _hint(self, count: int) -> str:
        return "b chat with all marked   x stop them" if self.marked else ""

    def _draw_launchables(self, nodes: list[NodeView], *, empty: bool) -> None:
        if not empty:
            self.launchables = None
            return
        offer = self.query_one(Launchables)
        view = next((view for view in nodes if view.relation == "self"), None)
        set_title(self.query_one("#models-box"), "Start here")
        if view is None:
            offer.say(self._no_node())
            return
        offer.show(view, self.launchables, self.recommended, readonly=self._readonly)
        if self.launchables is None:
            self._ask_launchables(view.id)

    def _no_node(self) -> list[str]:
        link = self.store.link
        if link.state == "connecting":
            return [f"Looking for a xin node {G.ellipsis}", clean(link.cause), "", _NODE_KEYS]
        cause = clean(link.cause or "no xin node answers")
        return ["There is no node to talk to.", cause, "", _NODE_KEYS]

    def _draw_jobs(self, nodes: list[NodeView], now: float) -> None:
        jobs = self.store.jobs()
        self.jobs.display = bool(current_jobs(jobs, now))
        if self.jobs.display:
            names = {view.id: view.name for view in nodes} if len(nodes) > 1 else {}
            self.jobs.show(jobs, names, now, one_line=self._narrow)
            self.jobs.can_focus = not self._narrow
            set_title(self.jobs, "Jobs")

    def _draw_detail(self, now: float) -> None:
        detail = self.query_one(Detail)
        target = self.target
        instance = self.store.instance(target) if target is not None else None
        view = self.store.nodes.get(target.node_id if target is not None else self.node_id)
        if view is None:
            detail.show_text("", [])
        elif instance is not None:
            logs = list(self._log) if self._log_of == target else []
            detail.show_model(view, instance, logs, now=now, narrow=self._narrow)
        else:
            detail.show_node(view, now=now)

    # -- focus

    def zoomable(self, focused: Widget) -> Widget:
        """The panel that holds it."""
        return next(
            (node for node in focused.ancestors_with_self if node.id in _PANELS and isinstance(node, Widget)), self
        )

    def _keep_focus(self) -> None:
        """When the layout has changed, the counterpart of the list that had the focus takes it, on the same row."""
        shape = self._shape
        if shape == self._drawn_shape:
            return
        key, self._drawn_shape = self.driver.key, shape
        heir = self.main_list
        if key.startswith(NODE_PREFIX) and not self._narrow:
            heir = self.query_one(NodeList)
        self._driver = str(heir.id)
        if not heir.move_to(key):
            heir.move_to(next((row.key for row in heir.rows if target_of(row.key)), ""))
        if not isinstance(self.screen.focused, Input):
            heir.focus(scroll_visible=False)

    @property
    def _shape(self) -> tuple[bool, bool]:
        """What decides which lists are shown."""
        return self._narrow, self.has_class("-empty")

    @on(events.DescendantFocus)
    def _on_row_focus(self, event: events.DescendantFocus) -> None:
        moved_by_hand = self._shape == self._drawn_shape  # else a list was hidden, and the next one got the focus
        if isinstance(event.widget, RowList) and event.widget is not self.jobs and moved_by_hand:
            self._driver = str(event.widget.id)
            self.draw()
            self._follow()

    @on(RowList.Moved)
    def _on_moved(self, event: RowList.Moved) -> None:
        if event.rows is self.driver:
            self._draw_detail(time.time())
            self._follow()

    @on(RowList.Resized)
    @on(Detail.Resized)
    def _on_resized(self) -> None:
        self.draw()

    # -- what has to be asked of a node

    def _follow(self) -> None:
        """Follow the log of the model under the cursor."""
        target = self.target
        if not self._awake or target == self._log_of:
            return
        self._log_of = target
        self._log.clear()
        self.workers.cancel_group(self, "log")
        if target is not None:
            self._follow_log(target)

    @work(group="log", exclusive=True, exit_on_error=False)
    async def _follow_log(self, target: Target) -> None:
        """Until another row is chosen. A node that is gone is asked again when it is back."""
        await asyncio.sleep(LOG_DELAY_SECONDS)
        while self.store.instance(target) is not None:
            view = self.store.nodes.get(target.node_id)
            if view is not None and view.status == "alive":
                await self._read_log(target)
            await asyncio.sleep(LOG_RETRY_SECONDS)

    async def _read_log(self, target: Target) -> None:
        self._log.clear()
        try:
            async with aclosing(self._client(target.node_id).follow_logs(target.uid, tail=LOG_LINES)) as lines:
                async for line in lines:
                    self._log.append(line)
                    self.changed()
        except XinError:
            pass  # the row tells what became of the node

    @work(group="launchables", exclusive=True, exit_on_error=False)
    async def _ask_launchables(self, node_id: str) -> None:
        client = self._client(node_id)
        try:
            self.launchables = await client.local_models()
        except XinError as exc:
            self.query_one(Launchables).say([f"cannot tell what can run here: {clean(exc.message)}"])
            return
        self.draw()
        with suppress(XinError):  # advice only; a node of before has none
            self.recommended = (await client.recommend(here=True)).models
            self.draw()
