"""The Bench: every node, what runs on it, what is known of the row under the cursor, and the jobs."""

from __future__ import annotations

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.events import ScreenResume, ScreenSuspend
from textual.widgets import Input

from xin.errors import XinError
from xin.tui.model_actions import ModelActions
from xin.tui.model_line import SORTS
from xin.tui.screens.place import Place
from xin.tui.store import Target
from xin.tui.text import clean
from xin.tui.widgets.bench_view import BenchView
from xin.tui.widgets.row_list import RowList

_ON_JOBS = frozenset({"pause_job", "cancel_job", "retry_job"})
_NOT_ON_JOBS = frozenset({"stop", "restart"})


class BenchScreen(Place):
    """Keys act on the marked models, else on the row under the cursor; on the jobs' strip they act on its job."""

    PLACE = "bench"
    AUTO_FOCUS = ""
    CSS_PATH = "bench.tcss"
    HELP = "Nodes, running models and jobs. Keys act on the row under the cursor, or on all marked rows."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "enter", "chat", id="bench.chat", tooltip="Chat with the model, or open what the row is"),
        Binding("l", "launch", "launch", id="bench.launch", tooltip="Choose a model and launch it"),
        Binding("x", "stop", "stop", id="bench.stop", tooltip="End the model and free its memory; asks first"),
        Binding("X", "kill", "kill", id="bench.kill", show=False, tooltip="Kill the model's process; asks first"),
        Binding("p", "pause_job", "pause", id="bench.pause_job", tooltip="Pause the job, or let it go on"),
        Binding("x", "cancel_job", "cancel", id="bench.cancel_job", tooltip="Cancel the job; what was fetched stays"),
        Binding("r", "retry_job", "retry", id="bench.retry_job", tooltip="Try the failed job again"),
        Binding("r", "restart", "restart", id="bench.restart", show=False, tooltip="End and launch again; asks first"),
        Binding("L", "logs", "logs", id="bench.logs", tooltip="What the model's process has said"),
        Binding("space", "mark", "mark", id="bench.mark", tooltip="Mark the model, so that keys act on several"),
        Binding("b", "broadcast", "broadcast", id="bench.broadcast", tooltip="Chat with all marked models at once"),
        Binding("slash", "filter", "filter", id="bench.filter", tooltip="Show only models with these words"),
        Binding(
            "s", "sort", "sort", id="bench.sort", show=False, tooltip="Order by node, name, state, memory or speed"
        ),
        Binding("a", "add_node", "add node", id="bench.add_node", show=False, tooltip="Talk to a node by its address"),
        Binding(
            "P", "pair", "pair", id="bench.pair", show=False, tooltip="Make one cluster of this machine and another"
        ),
        Binding("y", "copy_url", "copy URL", id="bench.copy_url", show=False, tooltip="Copy the URL for programs"),
        Binding("e", "details", "details", id="bench.details", show=False, tooltip="All that is known of the row"),
        Binding(
            "f", "files", "files", id="bench.files", show=False, tooltip="Weights on the node's disk; removing them"
        ),
        Binding("escape", "escape", "clear", id="bench.clear", show=False, tooltip="Clear filter and marks"),
    ]

    def body(self) -> ComposeResult:
        yield BenchView(self.workbench.store, self.workbench.client, readonly=self.workbench.readonly)

    @property
    def view(self) -> BenchView:
        return self.query_one(BenchView)

    @property
    def _actions(self) -> ModelActions:
        return ModelActions(self.workbench)

    def store_changed(self, topics: frozenset[str]) -> None:
        self.view.changed(topics)

    def on_screen_resume(self, event: ScreenResume) -> None:
        self.view.wake()

    def on_screen_suspend(self, event: ScreenSuspend) -> None:
        if not self.in_view:
            self.view.rest()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        try:
            on_jobs = self.view.jobs.has_focus
        except NoMatches:
            return True
        if action in _ON_JOBS:
            return on_jobs
        if action in _NOT_ON_JOBS:
            return not on_jobs
        return True

    # -- keys

    @on(RowList.Chosen)
    def _on_chosen(self) -> None:
        self.action_enter()

    def action_enter(self) -> None:
        """Chat with the model, open the job or the node, launch what can be launched."""
        view = self.view
        if (job := self._job) is not None:
            self.workbench.open_job(*job)
        elif view.offered is not None and view.driver is view.main_list:
            self._launch_offered()
        elif view.target is not None:
            self._chat([view.target])
        elif view.node_id:
            self.action_details()

    def action_launch(self) -> None:
        if self.workbench.readonly:
            self.workbench.say("this workbench is read-only", severity="warning")
            return
        self.workbench.open_launch()

    @work(exclusive=True, group="act")
    async def action_stop(self) -> None:
        if await self._actions.stop(self.view.targets):
            self.view.marked.clear()

    @work(exclusive=True, group="act")
    async def action_kill(self) -> None:
        await self._actions.kill(self.view.targets)

    @work(exclusive=True, group="act")
    async def action_restart(self) -> None:
        await self._actions.restart(self.view.targets)

    def action_logs(self) -> None:
        if self.view.target is not None:
            self.workbench.open_logs(*self.view.target)
        elif (job := self._job) is not None:
            self.workbench.open_job(*job)

    def action_mark(self) -> None:
        view = self.view
        if view.target is not None:
            view.marked ^= {view.target}
            view.driver.action_move(1)
            view.draw()

    def action_broadcast(self) -> None:
        """All marked models; with none marked, all that are ready."""
        view = self.view
        self._chat(view.targets if view.marked else self.workbench.store.targets())

    def action_sort(self) -> None:
        """Where there is no node yet the same key starts one, as the screen says."""
        view = self.view
        if self.workbench.store.home is None:
            self.workbench.action_start_node()
            return
        view.sort = SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]
        view.draw()

    def action_filter(self) -> None:
        box = self.view.filter_input
        box.display = True
        box.focus()

    def action_escape(self) -> None:
        """One thing at a time: the zoom, then the filter, then the marks."""
        view = self.view
        if self.maximized is not None:
            self.minimize()
        elif view.filter:
            view.filter_input.value = ""
            self._close_filter()
        elif view.marked:
            view.marked.clear()
        view.draw()

    def action_zoom(self) -> None:
        if self.maximized is not None:
            self.minimize()
        elif self.focused is not None:
            self.maximize(self.view.zoomable(self.focused), container=False)

    @work(exclusive=True, group="ask")
    async def action_add_node(self) -> None:
        from xin.tui.dialogs.add_node import AddNode

        url = await self.app.push_screen_wait(AddNode())
        if url:
            self.workbench.connect(url)

    @work(exclusive=True, group="ask")
    async def action_pair(self) -> None:
        """On a node that is only found: type its digits; else show digits for another machine."""
        from xin.tui.dialogs.pair import PairWith, ShowDigits

        if self.workbench.readonly or self.workbench.store.home is None:
            why = "this workbench is read-only" if self.workbench.readonly else "there is no node here to pair"
            self.workbench.say(why, severity="warning")
            return
        node = self.workbench.store.node(self.view.node_id)
        found = node is not None and node.relation == "found"
        told = await self.app.push_screen_wait(PairWith(node) if found and node is not None else ShowDigits())
        if told:
            self.workbench.say(told)

    def action_copy_url(self) -> None:
        node = self.workbench.store.node(self.view.node_id)
        if node is None or not node.endpoint:
            self.workbench.say("this node has no address to copy", severity="warning")
            return
        self.workbench.copy(f"{node.endpoint}/v1")

    def action_details(self) -> None:
        from xin.tui.dialogs.details import Details

        store, target = self.workbench.store, self.view.target
        instance = store.instance(target) if target is not None else None
        node = store.node(self.view.node_id)
        if node is not None:
            self.app.push_screen(Details(node, instance))

    def action_files(self) -> None:
        from xin.tui.dialogs.files import FilesDialog

        node = self.workbench.store.node(self.view.node_id)
        if node is None or not node.endpoint:
            self.workbench.say("this node has no address to ask", severity="warning")
            return
        self.app.push_screen(FilesDialog(node.id))

    def action_pause_job(self) -> None:
        self._act_on_job("pause", "resume")

    def action_cancel_job(self) -> None:
        self._act_on_job("cancel")

    def action_retry_job(self) -> None:
        self._act_on_job("retry")

    # -- the filter's box

    @on(Input.Changed, "#filter")
    def _on_filter_changed(self, event: Input.Changed) -> None:
        self.view.filter = event.value.strip()
        self.view.draw()

    @on(Input.Submitted, "#filter")
    def _close_filter(self) -> None:
        box = self.view.filter_input
        box.display = bool(box.value.strip())
        self.view.main_list.focus()

    # -- parts

    @property
    def _job(self) -> tuple[str, str] | None:
        """Node and id of the job under the cursor, while the strip has the focus."""
        jobs = self.view.jobs
        node_id, tab, job_id = jobs.key.partition("\t")
        return (node_id, job_id) if jobs.has_focus and tab else None

    def _chat(self, targets: list[Target]) -> None:
        ready = set(self.workbench.store.targets())
        able = [target for target in targets if target in ready]
        if able:
            self.workbench.open_chat(able)
            return
        names = ", ".join(clean(target.uid) for target in targets) or "no model"
        self.workbench.say(f"{names} cannot answer now: only models that are ready can", severity="warning")

    @work(exclusive=True, group="act")
    async def _launch_offered(self) -> None:
        view = self.view
        if view.offered is not None:
            await self._actions.launch(view.node_id, view.offered)

    @work(exclusive=True, group="act")
    async def _act_on_job(self, *wanted: str) -> None:
        """The first of `wanted` that the job takes now."""
        if (at := self._job) is None:
            return
        node = self.workbench.store.node(at[0])
        job = node.jobs.get(at[1]) if node is not None else None
        action = next((action for action in wanted if job is not None and action in job.actions), None)
        if action is None or self.workbench.readonly:
            why = "this workbench is read-only" if self.workbench.readonly else f"it cannot be done now: {wanted[0]}"
            self.workbench.say(why, severity="warning")
            return
        try:
            await self.workbench.client(at[0]).job_action(at[1], action)
        except XinError as exc:
            self.workbench.say(clean(f"cannot {action} it: {exc.message}"), severity="error")
