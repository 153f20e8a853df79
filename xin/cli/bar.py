"""A bar on a terminal for one thing that takes its time; nothing where stderr is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xin.cli.output import console, one_line

Show = Callable[[float, str], None]
_NAME_WIDTH = 20
_BAR_WIDTH = 12


@contextmanager
def bar(name: str, *, left: bool = False) -> Iterator[Show]:
    """What to call with the part that is done and the words for it. `left`: tell the time left, not the time taken."""
    if not sys.stderr.isatty():
        yield lambda fraction, words: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    words = Column(no_wrap=True, ratio=1)
    columns = (
        TextColumn("{task.fields[label]}", markup=False, table_column=Column(no_wrap=True, max_width=_NAME_WIDTH)),
        TextColumn("{task.description}", markup=False, table_column=words),
        BarColumn(_BAR_WIDTH),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TimeRemainingColumn() if left else TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True, expand=True) as progress:
        task = progress.add_task("", total=1.0, label=one_line(name))
        yield lambda fraction, words: progress.update(task, completed=fraction, description=one_line(words))
