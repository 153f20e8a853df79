"""The running models, a line each: figures, progress while one loads, the cause of one that failed."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from textual.content import Content

from xin.tui.glyphs import G
from xin.tui.model_line import ModelLine
from xin.tui.store import Target
from xin.tui.text import fit
from xin.tui.widgets.bars import progress_bar
from xin.tui.widgets.row_list import Row, RowList

STATE_CELLS = 10
SHORTEST_NAME, LONG_NAME = 16, 24  # a name may push the quantization out up to the second
_MEMORY, _CONTEXT, _REQUESTS, _SPEED = 5, 5, 6, 6
_FIGURES = _MEMORY + _CONTEXT + _REQUESTS + _SPEED + 3
_LOG_HINT = "  [L] why"


@dataclass(frozen=True, slots=True)
class Columns:
    """Cells of each column at one width."""

    name: int
    quantization: int
    where: int

    @classmethod
    def of(cls, lines: Sequence[ModelLine], width: int) -> Columns:
        """The name takes what is left, up to what the longest needs; the quantization goes when that is too little."""
        where = min(max([len(line.where) for line in lines] + [len("NODE:GPU")]), 20)
        quantization = min(max([len(line.quantization) for line in lines], default=0), 10)
        rest = width - where - 1 - STATE_CELLS - 3 - _FIGURES
        quantization = max(quantization, len("QUANT")) if quantization else 0
        longest = max((len(line.uid) for line in lines), default=0)
        wanted = max(longest, SHORTEST_NAME) + 2
        if not quantization or rest - quantization - 1 < min(longest, LONG_NAME):
            return cls(min(max(rest, 6), wanted), 0, where)
        return cls(min(rest - quantization - 1, wanted), quantization, where)


class ModelTable(RowList):
    """`show` the lines; the cursor's key is `key_of` its target."""

    HELP = "Running models of all nodes. Space marks several; what you press then acts on all of them."

    def show(self, lines: Sequence[ModelLine], marked: Set[Target]) -> None:
        columns = Columns.of(lines, self.room)
        self.set_header(_header(columns))
        self.set_rows(
            [
                Row(key_of(line.target), model_line(line, columns, self.room), marked=line.target in marked)
                for line in lines
            ]
        )


def key_of(target: Target) -> str:
    return f"{target.node_id}\t{target.uid}"


def target_of(key: str) -> Target | None:
    node_id, tab, uid = key.partition("\t")
    return Target(node_id, uid) if tab else None


def model_line(line: ModelLine, columns: Columns, width: int) -> Content:
    dim = "$foreground-muted"
    head = Content.assemble(
        (fit(line.uid, columns.name), dim if line.stale else "bold"),
        (" " + fit(line.quantization, columns.quantization), dim) if columns.quantization else "",
        (" " + fit(line.where, columns.where), dim if line.stale else ""),
        "  ",
        state_cells(line),
        " ",
    )
    return Content.assemble(head, tail_of(line, width - head.cell_length))


def state_cells(line: ModelLine) -> Content:
    word = "download" if line.state == "downloading" else line.state
    return Content.styled(fit(f"{line.glyph} {word}", STATE_CELLS), line.style)


def tail_of(line: ModelLine, width: int) -> Content:
    """Figures, or the progress of one under way, or the cause of one that failed."""
    if line.state == "failed":
        cause = line.cause or "no cause is known"
        hint = _LOG_HINT if width >= 30 else ""
        return Content.assemble((fit(cause, width - len(hint)), "$error"), (hint, "$foreground-muted"))
    if line.under_way:
        return progress_of(line, width)
    figures = (
        f"{line.memory:>{_MEMORY}} {line.context:>{_CONTEXT}} {line.requests:>{_REQUESTS}} "
        f"{line.tokens_per_second:>{_SPEED}}"
    )
    return Content.styled(fit(figures, width), "$foreground-muted") if line.stale else Content(fit(figures, width))


def progress_of(line: ModelLine, width: int) -> Content:
    stage = f" {line.stage}" if line.stage and line.stage != line.state else ""
    percent = f"{line.progress:>4.0%} "
    bar = min(max(width - len(percent) - len(stage), 6), 20)
    rest = width - len(percent) - bar
    return Content.assemble(percent, progress_bar(line.progress, bar), (fit(stage, max(rest, 0)), "$foreground-muted"))


def _header(columns: Columns) -> Content:
    name = fit("MODEL", columns.name)
    quantization = " " + fit("QUANT", columns.quantization) if columns.quantization else ""
    head = f"{name}{quantization} {fit('NODE:GPU', columns.where)}  {fit('STATE', STATE_CELLS)} "
    figures = f"{'MEM':>{_MEMORY}} {'CTX':>{_CONTEXT}} {'REQ':>{_REQUESTS}} {'TOK/S':>{_SPEED}}"
    return Content(head + figures)


def empty_text(wanted: str) -> str:
    return f"nothing matches {wanted!r}  {G.none}  esc clears the filter" if wanted else "no model is running"
