"""One job in full: its stages with their times, the cause and what to do, its files."""

from __future__ import annotations

import time

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from xin.protocol.node import Job, JobFile, JobStage
from xin.tui.job_words import ACTIVE, STYLES, clock, glyph_of
from xin.tui.text import bytes_short, clean, fit
from xin.tui.widgets.bars import progress_bar
from xin.tui.widgets.job_list import JobLine

_NAME, _TIME, _ENDED = 10, 8, 18
MOST_FILES = 200


class JobDetail(VerticalScroll):
    """`show` a job, or None."""

    HELP = "The stages of a job. A failed one says why and what to do."
    DEFAULT_CSS = """
    JobDetail Static {
        width: 1fr;
        height: auto;
    }
    """

    def compose(self) -> ComposeResult:
        yield Static("", markup=False)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._line: JobLine | None = None

    def on_resize(self) -> None:
        self.show(self._line)

    def show(self, line: JobLine | None) -> None:
        self._line = line
        width = max(self.scrollable_content_region.width, 20)
        drawn = detail(line.job, width) if line is not None else Content("")
        static = self.query_one(Static)
        if not isinstance(static.content, Content) or not drawn.is_same(static.content):
            static.update(drawn)

    @property
    def text(self) -> str:
        """What is shown, as plain text."""
        content = self.query_one(Static).content
        return content.plain if isinstance(content, Content) else str(content)


def title_of(line: JobLine) -> str:
    """mistral-24b at hera   2 of 4   elapsed 2:22   about 0:50 left."""
    job = line.job
    parts = [f"{clean(job.title)} at {line.where}"]
    if job.stages:
        done = sum(stage.state in ("done", "skipped") for stage in job.stages)
        parts.append(f"{done} of {len(job.stages)}")
    if job.started_at is not None:
        until = job.ended_at or time.time()
        parts.append(f"{'took' if job.ended_at else 'elapsed'} {clock(until - job.started_at)}")
    if job.state == "running" and job.seconds_left is not None:
        parts.append(f"about {clock(job.seconds_left)} left")
    return "   ".join(parts)


def detail(job: Job, width: int) -> Content:
    lines = [_stage(stage, width) for stage in job.stages]
    if job.cause:
        lines += [Content(""), Content.styled(clean(job.cause), "$error")]
    if job.hint:
        lines.append(Content(clean(job.hint)))
    if job.state == "waiting":
        lines += [Content(""), Content.styled("waits for another job of its kind", "$foreground-muted")]
    if job.files:
        lines += [Content(""), _file_header(width), *(_file(file, width) for file in job.files[:MOST_FILES])]
    if job.detail and job.state == "done":
        lines += [Content(""), Content(clean(job.detail))]
    if job.command:
        lines += [
            Content(""),
            Content.assemble(("$ ", "$foreground-disabled"), (clean(job.command), "$foreground-muted")),
        ]
    return Content("\n").join(lines)


def _stage(stage: JobStage, width: int) -> Content:
    head = Content.assemble(
        (f"{glyph_of(stage.state)} ", STYLES.get(stage.state, "")), fit(clean(stage.name), _NAME), " "
    )
    taken = ""
    if stage.started_at is not None:
        taken = _taken((stage.ended_at or time.time()) - stage.started_at)
    tail = f"{taken:>{_TIME}}"
    rest = width - head.cell_length - len(tail)
    if stage.state == "running" and stage.progress is not None:
        bar = min(24, max(rest // 3, 6))
        words = fit(f" {stage.progress:.0%} {clean(stage.detail)}", max(rest - bar, 0))
        return Content.assemble(head, progress_bar(stage.progress, bar), words, tail)
    return Content.assemble(head, fit(clean(stage.detail), max(rest, 0)), (tail, "$foreground-muted"))


def _taken(seconds: float) -> str:
    return f"{max(seconds, 0):.1f} s" if seconds < 60 else clock(seconds)


def _file_header(width: int) -> Content:
    head = f"  {fit('file', max(width - 30, 10))} {'size':>6}  done"
    return Content.styled(fit(head, width), "$foreground-muted")


def _file(file: JobFile, width: int) -> Content:
    name = fit(clean(file.name), max(width - 30, 10))
    head = f"  {name} {bytes_short(file.total_bytes):>6}  "
    if file.state in ACTIVE and file.total_bytes and file.done_bytes:
        return Content.assemble(head, progress_bar(file.done_bytes / file.total_bytes, 12))
    words = fit(f" {clean(file.state)}" + (f" from {clean(file.source)}" if file.source else ""), _ENDED).rstrip()
    return Content.assemble(head, (glyph_of(file.state), STYLES.get(file.state, "")), words)
