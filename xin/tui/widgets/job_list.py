"""All jobs of all nodes, a line each: what, where, how far, how fast, how long yet, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content

from xin.protocol.node import Job
from xin.tui.glyphs import G
from xin.tui.job_words import ACTIVE, STYLES, clock, glyph_of, stage_of
from xin.tui.store import NodeView
from xin.tui.text import ago, bytes_short, clean, fit
from xin.tui.widgets.bars import progress_bar
from xin.tui.widgets.row_list import Row, RowList

WIDE = 96
_KIND, _RATE, _LEFT, _STATE, _BAR = 9, 9, 7, 11, 14


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job and where it runs. `gone_for`: seconds since its node fell silent, None while it answers."""

    node_id: str
    job: Job
    where: str
    gone_for: float | None = None

    @property
    def key(self) -> str:
        return f"{self.node_id}\t{self.job.id}"

    @property
    def words(self) -> str:
        """What a filter looks in."""
        job = self.job
        return " ".join([job.kind, job.title, self.where, job.state, job.cause or "", job.model_uid or ""]).lower()


class JobList(RowList):
    """`show` the lines; the cursor's key is the line's."""

    HELP = "What the nodes work at by themselves. It goes on when this window closes."

    def show(self, lines: Sequence[JobLine]) -> None:
        width = self.room
        if width >= WIDE:
            name = _name_cells(lines, width)
            self.set_header(_header(name, width))
            self.set_rows([Row(line.key, _wide(line, name, width)) for line in lines])
        else:
            self.set_header(None)
            self.set_rows([Row(line.key, _narrow(line, width)) for line in lines])


def job_lines(jobs: Sequence[tuple[str, Job]], nodes: Mapping[str, NodeView], wanted: str = "") -> list[JobLine]:
    """Those under way first, then the others, newest first; only those that have all of the `wanted` words."""
    lines = []
    for node_id, job in jobs:
        view = nodes.get(node_id)
        gone = time.time() - view.seen_at if view is not None and view.status == "gone" else None
        lines.append(JobLine(node_id, job, clean(job.node or (view.name if view else "")), gone))
    words = wanted.lower().split()
    shown = [line for line in lines if all(word in line.words for word in words)]
    return sorted(shown, key=lambda line: (line.job.state not in ACTIVE, -line.job.created_at))


def state_of(line: JobLine) -> tuple[str, str]:
    """(glyph and word, style)."""
    if line.gone_for is not None and line.job.state in ACTIVE:
        return f"{G.gone} unknown", "$foreground-muted"
    return f"{glyph_of(line.job.state)} {line.job.state}", STYLES.get(line.job.state, "")


def _name_cells(lines: Sequence[JobLine], width: int) -> int:
    longest = max((len(clean(line.job.title)) for line in lines), default=0)
    return max(min(longest, width - _KIND - _BAR - _RATE - _LEFT - _STATE - 44), 14)


def _header(name: int, width: int) -> Content:
    head = f"{'KIND':<{_KIND}} {fit('WHAT', name)} {'WHERE':<10} {'PHASE':<10} "
    tail = f" {'RATE':>{_RATE}} {'LEFT':>{_LEFT}}  {'STATE':<{_STATE}}"
    return Content(head + fit("PROGRESS", width - len(head) - len(tail)) + tail)


def _wide(line: JobLine, name: int, width: int) -> Content:
    job = line.job
    state, style = state_of(line)
    head = Content.assemble(
        f"{job.kind:<{_KIND}} ",
        (fit(clean(job.title), name), "bold"),
        f" {fit(line.where, 10)} {fit(stage_of(job) or clean(job.state), 10)} ",
    )
    running = job.state == "running" and line.gone_for is None
    rate = f"{bytes_short(job.bytes_per_second)}/s" if running and job.bytes_per_second else ""
    left = clock(job.seconds_left) if running else ""
    tail = Content.assemble(f" {rate:>{_RATE}} {left:>{_LEFT}}  ", (fit(state, _STATE), style))
    return Content.assemble(head, _progress(line, width - head.cell_length - tail.cell_length), tail)


def _narrow(line: JobLine, width: int) -> Content:
    job = line.job
    state, style = state_of(line)
    title = fit(f"{clean(job.title)} @{line.where}", max(width // 3, 18))
    head = Content.assemble((state[:1], style), f" {job.kind:<8} ", (title, "bold"), " ")
    left = f" {clock(job.seconds_left)}" if job.state == "running" and job.seconds_left is not None else ""
    return Content.assemble(head, _progress(line, width - head.cell_length - len(left)), left)


def _progress(line: JobLine, width: int) -> Content:
    """A bar with what is being done, or the cause, or how it ended."""
    job = line.job
    if line.gone_for is not None and job.state in ACTIVE:
        return Content.styled(fit(f"its node is gone {ago(line.gone_for)}", width), "$foreground-muted")
    if job.cause:
        return Content.styled(fit(clean(job.cause), width), "$error")
    if job.state not in ACTIVE:
        ended = time.strftime("%H:%M", time.localtime(job.ended_at)) if job.ended_at else ""
        took = clock(job.ended_at - job.started_at) if job.ended_at and job.started_at else ""
        return Content.styled(
            fit(f"{ended}  in {took}  {clean(job.detail)}" if took else ended, width), "$foreground-muted"
        )
    bar = min(_BAR, max(width - 5, 4))
    facts = [f"{job.progress:>4.0%}"]
    if job.bytes_total:
        facts.append(f"{bytes_short(job.bytes_done)}/{bytes_short(job.bytes_total)}")
    running = next((stage for stage in job.stages if stage.state == "running"), None)
    facts.append(clean(running.detail or running.name) if running else job.state)
    while len(facts) > 1 and len("  ".join(facts)) + 1 > width - bar:
        facts.pop()
    return Content.assemble(progress_bar(job.progress, bar), fit(" " + "  ".join(facts), max(width - bar, 0)))
