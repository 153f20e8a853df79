"""The Jobs: what the nodes work at by themselves, and what became of it."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from xin.errors import XinError
from xin.protocol.node import Job, JobAction
from xin.tui.log_book import Line, LogBook, line_of
from xin.tui.screens.place import Place
from xin.tui.store import Target
from xin.tui.text import bytes_short, clean
from xin.tui.widgets.job_detail import JobDetail, title_of
from xin.tui.widgets.job_list import JobLine, JobList, job_lines
from xin.tui.widgets.log_view import LogView
from xin.tui.widgets.row_list import RowList
from xin.tui.widgets.titles import set_title

LOG_SECONDS = 1.0
_SURVIVES = "goes on when this window closes: the node does the work"


class JobsScreen(Place):
    """Keys act on the job under the cursor."""

    PLACE = "jobs"
    CSS_PATH = "jobs.tcss"
    HELP = "Launches, downloads, installations, quantizations: the nodes' work, which goes on when this window closes."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", id="jobs.open", tooltip="Read its stages, or go back to the list"),
        Binding("p", "pause", "pause", id="jobs.pause", tooltip="Pause the job, or let it go on"),
        Binding("x", "act('cancel')", "cancel", id="jobs.cancel", tooltip="End it; asks first"),
        Binding("X", "remove", "delete", id="jobs.delete", tooltip="End it and take it off the list"),
        Binding("r", "act('retry')", "retry", id="jobs.retry", tooltip="Try again what failed or was cancelled"),
        Binding("L", "logs", "log", id="jobs.logs", tooltip="Its log alone; of a launch, the model's log"),
        Binding("y", "copy", "copy", id="jobs.copy", show=False, tooltip="Copy the equal command"),
        Binding("l", "launch", "launch", id="jobs.launch", tooltip="Choose a model and launch it"),
        Binding("slash", "filter", "filter", id="jobs.filter", tooltip="Show only jobs with these words"),
        Binding("escape", "escape", "back", id="jobs.back", show=False, tooltip="Back, or clear the filter"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, JobLine] = {}
        self._book = LogBook()
        self._book.level = "debug"
        self._log_of = ""
        self._log_at = 0.0
        self._wanted = ""

    # ---- layout

    def body(self) -> ComposeResult:
        with Vertical():
            yield JobList(id="jobs-list")
            yield Input(placeholder="filter: words of the kind, name, node, state or cause", id="jobs-filter")
            with Container(id="job-box"):
                yield JobDetail(id="job-detail")
                with Vertical(id="job-log-box"):
                    yield LogView(self._book, id="job-log")

    def on_mount(self) -> None:
        self.job_log.show_source = False
        self.job_list.focus()
        set_title(self.query_one("#job-detail"), "", _SURVIVES)
        set_title(self.query_one("#job-log-box"), "log", "L full log")

    @property
    def job_list(self) -> JobList:
        return self.query_one(JobList)

    @property
    def job_log(self) -> LogView:
        return self.query_one(LogView)

    @property
    def line(self) -> JobLine | None:
        """The job under the cursor."""
        return self._lines.get(self.job_list.key)

    # ---- news

    def store_changed(self, topics: frozenset[str]) -> None:
        if topics & {"jobs", "nodes", "link"}:
            self._draw_jobs()

    def open_job(self, node_id: str, job_id: str) -> None:
        """Put the cursor on this job."""
        self._wanted = f"{node_id}\t{job_id}"
        self.query_one("#jobs-filter", Input).value = ""
        self._draw_jobs()
        self.job_list.focus()

    def _draw_jobs(self) -> None:
        store = self.workbench.store
        lines = job_lines(store.jobs(), store.nodes, self.query_one("#jobs-filter", Input).value)
        self._lines = {line.key: line for line in lines}
        self.job_list.show(lines)
        if self._wanted and self.job_list.move_to(self._wanted):
            self._wanted = ""
        counts = [(word, sum(line.job.state == word for line in lines)) for word in ("running", "paused", "failed")]
        rate = sum(line.job.bytes_per_second for line in lines if line.job.state == "running")
        facts = [f"{count} {word}" for word, count in counts if count] + ([f"{bytes_short(rate)}/s"] if rate else [])
        self.header.facts = "   ".join(facts)
        hidden = sum(len(view.jobs) for view in store.nodes.values()) - len(lines)
        set_title(self.job_list, "Jobs", f"{hidden} hidden by the filter   esc shows all" if hidden else "")
        self._draw_job()

    def _draw_job(self) -> None:
        line = self.line
        self.query_one(JobDetail).show(line)
        empty = "no job here; l launches a model, and that is one" if not self._lines else ""
        set_title(self.query_one("#job-detail"), title_of(line) if line is not None else empty, _SURVIVES)
        self.refresh_bindings()
        if line is None:
            self._show_log("", [])
        elif self._log_of != line.key or self._log_is_old(line.job):
            self._read_log(line)

    def _log_is_old(self, job: Job) -> bool:
        """It grows while the job runs; once more when it has ended."""
        age = time.monotonic() - self._log_at
        return age > LOG_SECONDS if job.ended_at is None else age > time.time() - job.ended_at

    @on(RowList.Moved)
    def _moved(self) -> None:
        self._draw_job()

    @on(RowList.Resized)
    def _resized(self) -> None:
        self._draw_jobs()

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        self.action_open()

    @work(exclusive=True, group="job-log", exit_on_error=False)
    async def _read_log(self, line: JobLine) -> None:
        """The node keeps it; a job that has gone has none."""
        self._log_at = time.monotonic()
        try:
            lines = await self.workbench.client(line.node_id).job_log(line.job.id)
        except XinError:
            lines = []
        target = Target(line.node_id, line.job.id)
        self._show_log(line.key, [line_of(target, line.where, one) for one in lines])

    def _show_log(self, key: str, lines: list[Line]) -> None:
        view = self.job_log
        if key != self._log_of:
            view.following = True
        self._log_of = key
        if [*self._book.lines] != lines:
            self._book.clear()
            self._book.add(lines)
            view.sync()

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the job can do now stands in the footer."""
        if action not in ("act", "pause", "remove"):
            return True
        line = self.line if self.is_mounted else None
        if line is None or self.workbench.readonly:
            return False
        actions = line.job.actions
        if action == "pause":
            return bool({"pause", "resume"} & set(actions))
        return bool({"cancel", "delete"} & set(actions)) if action == "remove" else parameters[0] in actions

    def action_open(self) -> None:
        (self.job_list if self.query_one(JobDetail).has_focus else self.query_one(JobDetail)).focus()

    def action_pause(self) -> None:
        line = self.line
        if line is not None:
            self._act(line, "resume" if "resume" in line.job.actions else "pause")

    def action_act(self, action: JobAction) -> None:
        if self.line is not None:
            self._act(self.line, action)

    def action_remove(self) -> None:
        if self.line is not None:
            self._act(self.line, "delete")

    @work(group="job-act", exit_on_error=False)
    async def _act(self, line: JobLine, action: JobAction) -> None:
        """Ask where work would be lost, then tell the node."""
        job, client = line.job, self.workbench.client(line.node_id)
        ends = action in ("cancel", "delete") and "cancel" in job.actions
        command = f"xin jobs {'delete' if action == 'delete' else 'cancel'} {job.id}"
        if ends and not await self.workbench.ask(_question(job, action), command=command, danger=True):
            return
        try:
            if action == "delete" and "delete" not in job.actions:
                await client.job_action(job.id, "cancel")
            after = await client.job_action(job.id, action)
        except XinError as exc:
            hint = f": {exc.hint}" if exc.hint else ""
            self.workbench.say(clean(f"cannot {action} {job.title}: {exc.message}{hint}"), severity="error")
        else:
            if action == "retry":
                self._wanted = f"{line.node_id}\t{after.id}"

    def action_logs(self) -> None:
        line = self.line
        if line is None:
            return
        uid = line.job.model_uid
        if uid is not None and self.workbench.store.instance(Target(line.node_id, uid)) is not None:
            self.workbench.open_logs(line.node_id, uid)
        else:
            self.toggle_class("-log")
            (self.job_log if self.has_class("-log") else self.job_list).focus()

    def action_copy(self) -> None:
        if self.line is not None and self.line.job.command:
            self.workbench.copy(self.line.job.command)

    def action_launch(self) -> None:
        self.workbench.open_launch()

    def action_filter(self) -> None:
        box = self.query_one("#jobs-filter", Input)
        box.display = True
        box.focus()

    @on(Input.Changed, "#jobs-filter")
    def _filter_changed(self) -> None:
        self._draw_jobs()

    @on(Input.Submitted, "#jobs-filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        event.input.display = bool(event.value)
        self.job_list.focus()

    def action_escape(self) -> None:
        box = self.query_one("#jobs-filter", Input)
        if self.has_class("-log"):
            self.remove_class("-log")
        elif box.display:
            box.value = ""
            box.display = False
        self.job_list.focus()


def _question(job: Job, action: JobAction) -> str:
    kept = job.kind == "download" and action == "cancel"
    after = "What has come stays, and r goes on from there." if kept else "What it has made so far is removed."
    return f"End the {job.kind} of {clean(job.title)}? {after}"
