"""The jobs that run, wait or have just failed, a line each; in a narrow terminal one line for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.content import Content

from xin.protocol.node import Job
from xin.tui.glyphs import G
from xin.tui.job_words import ACTIVE, STYLES, clock, glyph_of, stage_of
from xin.tui.text import bytes_short, clean, fit
from xin.tui.widgets.bars import progress_bar
from xin.tui.widgets.row_list import Row, RowList

MOST = 4
RECENT_SECONDS = 600.0
_ORDER = {"running": 0, "paused": 1, "waiting": 2, "failed": 3, "done": 4, "cancelled": 5}
JobAt = tuple[str, Job]


class JobsStrip(RowList):
    """`show` the store's jobs. The cursor's key is node and job id with a tab between."""

    HELP = "Jobs under way and those that failed. Enter opens one; p pauses or resumes, x cancels, r tries again."

    IDLE_CURSOR = False

    def show(self, jobs: Sequence[JobAt], names: Mapping[str, str], now: float, *, one_line: bool) -> None:
        """`names`: of the nodes, by id."""
        shown = current_jobs(jobs, now)
        if one_line:
            parts = [_brief(job, now) for _, job in shown[:MOST]]
            self.set_rows([Row("", Content("   ").join(parts), selectable=False)] if parts else [])
        else:
            self.set_rows(
                [Row(f"{node}\t{job.id}", _job_line(job, names.get(node, ""), self.room, now)) for node, job in shown]
            )


def current_jobs(jobs: Sequence[JobAt], now: float) -> list[JobAt]:
    """Those under way, then those that failed of late and were not tried again. What went well needs no place here."""
    latest: dict[tuple[str, str, str], JobAt] = {}
    for node, job in sorted(jobs, key=lambda at: at[1].created_at):
        latest[node, job.kind, job.model_uid or job.title] = node, job
    kept = [at for at in jobs if at[1].state in ACTIVE or (at in latest.values() and _failed_of_late(at[1], now))]
    return sorted(kept, key=lambda at: _ORDER[at[1].state])


def job_name(job: Job) -> str:
    """A launch goes by the uid of its model."""
    return clean(job.model_uid or job.title or job.id)


def time_left(seconds: float | None) -> str:
    """m:ss left, rounded down; nothing when unknown."""
    return "" if seconds is None else f"{clock(int(seconds))} left"


def _failed_of_late(job: Job, now: float) -> bool:
    return job.state == "failed" and now - (job.ended_at or now) < RECENT_SECONDS


def _job_line(job: Job, node: str, width: int, now: float) -> Content:
    title = f"{job.kind} {job_name(job)}"
    where = f" @{clean(node)}" if node else ""
    head_cells = min(max(len(title) + len(where), 22), max(width // 3, 16))
    head = Content.assemble(
        (f"{glyph_of(job.state)} ", STYLES.get(job.state, "")), (fit(title + where, head_cells), "bold"), "  "
    )
    keys = Content.styled(_keys(job), "$foreground-muted")
    rest = max(width - head.cell_length - keys.cell_length - 2, 10)
    return Content.assemble(head, _progress(job, rest), "  ", keys)


def _progress(job: Job, width: int) -> Content:
    if job.state == "failed":
        return Content.styled(fit(clean(job.cause or job.detail or "failed"), width), "$error")
    facts = [stage_of(job) or clean(job.detail), f"{job.progress:.0%}"]
    if job.bytes_total:
        facts.append(f"{bytes_short(job.bytes_done)}/{bytes_short(job.bytes_total)}")
    if job.state == "running" and job.bytes_per_second:
        facts.append(f"{bytes_short(int(job.bytes_per_second))}/s")
    facts.append(time_left(job.seconds_left) if job.state == "running" else job.state)
    text = "  ".join(fact for fact in facts if fact)
    bar = min(max(width - len(text) - 1, 6), 24)
    return Content.assemble(progress_bar(job.progress, bar), " ", fit(text, max(width - bar - 1, 0)))


def _brief(job: Job, now: float) -> Content:
    name = fit(job_name(job), 24).rstrip()
    fact = (
        clean(job.cause or "failed") if job.state == "failed" else f"{job.progress:.0%} {time_left(job.seconds_left)}"
    )
    return Content.assemble((f"{glyph_of(job.state)} ", STYLES.get(job.state, "")), (name, "bold"), " ", fact.rstrip())


def _keys(job: Job) -> str:
    """Which keys do something now."""
    names = {"pause": "p pause", "resume": "p resume", "retry": "r retry", "cancel": "x cancel"}
    return "  ".join([f"{G.enter} open"] + [names[action] for action in names if action in job.actions])
