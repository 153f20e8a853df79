"""The weights on a node's machine: what takes how much, who uses it, and what its removal would free."""

from __future__ import annotations

import asyncio
import shlex
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from xin.errors import XinError
from xin.protocol.node import FilesRemoved, WeightFile
from xin.tui.dialogs.dialog import Dialog
from xin.tui.dialogs.model_choice import node_name
from xin.tui.glyphs import G
from xin.tui.text import bytes_short, clean, fit
from xin.tui.widgets.row_list import Row, RowList
from xin.tui.widgets.titles import set_title

PREVIEW_SECONDS = 0.15
MOST_SHOWN = 4
MOST_NAME = 40
_FROM_CELLS, _USED_CELLS = 12, 16


class FilesDialog(Dialog[None]):
    """What goes and what stays is asked of the node for the row under the cursor, and again before anything goes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x,delete", "remove(False)", "remove", id="files.remove", tooltip="Remove these weights; asks first"),
        Binding("X", "remove(True)", "remove any", id="files.remove_any", tooltip="Also another program's; asks first"),
    ]
    DEFAULT_CSS = """
    FilesDialog > #dialog { width: 112; }
    FilesDialog RowList { height: 14; }
    FilesDialog.-short RowList { height: 8; }
    FilesDialog #files-about { height: 6; margin: 1 0 0 0; }
    """

    def __init__(self, node_id: str) -> None:
        keys = f"x remove   X other programs' too   {G.up}{G.down} move   esc close"
        super().__init__("Weights", command="xin files", keys=keys)
        self._node_id = node_id
        self._files: dict[str, WeightFile] = {}

    def body(self) -> ComposeResult:
        yield RowList(id="files")
        yield Static("", id="files-about", markup=False)

    def on_mount(self) -> None:
        self._say(f"looking what is there {G.ellipsis}")
        self._look()

    @property
    def chosen(self) -> WeightFile | None:
        """The file under the cursor."""
        return self._files.get(self.query_one(RowList).key)

    # ---- what is there

    @work(exclusive=True, group="files", exit_on_error=False)
    async def _look(self) -> None:
        try:
            found = await self.workbench.client(self._node_id).files()
        except XinError as exc:
            self._say(_words(exc))
            return
        self._files = {one.path: one for one in found.files}
        count = "1 file" if len(found.files) == 1 else f"{len(found.files)} files"
        where = node_name(self.workbench.store, self._node_id)
        set_title(self.query_one("#dialog"), f"Weights on {where}: {count}, {bytes_short(found.total_bytes)}")
        self._draw()

    @on(RowList.Resized)
    def _draw(self) -> None:
        room = self.query_one(RowList).room
        rows = [Row(path, _line(one, room)) for path, one in self._files.items()]
        self.query_one(RowList).set_rows(rows)
        self._on_moved()

    @on(RowList.Moved)
    def _on_moved(self) -> None:
        one = self.chosen
        self.command = f"xin rm {shlex.quote(_name(one))}" if one is not None else "xin files"
        if one is not None:
            self._say(clean(one.path))
            self._preview(one)

    @work(exclusive=True, group="preview", exit_on_error=False)
    async def _preview(self, one: WeightFile) -> None:
        """Not while the cursor runs."""
        await asyncio.sleep(PREVIEW_SECONDS)
        try:
            client = self.workbench.client(self._node_id)
            told = _told(await client.remove_files(_name(one), dry_run=True))
        except XinError as exc:
            told = [_words(exc)]
        if self.chosen is one:
            self._say(*_places(one), *told)

    def _say(self, *lines: str) -> None:
        self.query_one("#files-about", Static).update(Content("\n".join(lines)))

    # ---- removing

    @work(exclusive=True, group="remove", exit_on_error=False)
    async def action_remove(self, foreign: bool) -> None:
        one = self.chosen
        if one is None:
            return
        if self.workbench.readonly:
            self.workbench.say("this workbench is read-only", severity="warning")
            return
        name = _name(one)
        try:
            client = self.workbench.client(self._node_id)
            planned = await client.remove_files(name, foreign=foreign, dry_run=True)
            if not planned.removed:
                self.workbench.say("\n".join(_told(planned)), severity="warning")
                return
            command = f"xin rm {shlex.quote(name)}{' --foreign' if foreign else ''}"
            question = "\n".join([f"Remove {clean(name)}?", *_told(planned)])
            if not await self.workbench.ask(question, command=command, danger=True):
                return
            done = await client.remove_files(name, foreign=foreign)
        except XinError as exc:
            self.workbench.say(_words(exc), severity="error")
            return
        self.workbench.say(f"removed {clean(name)}: {bytes_short(done.freed_bytes)} are free")
        self._look()


def _name(one: WeightFile) -> str:
    """What `xin rm` takes: the model's name, so that all parts of it go, else the file's path."""
    return one.model_names[0] if len(one.model_names) == 1 else one.path


def _line(one: WeightFile, room: int) -> Content:
    """Size, what is launched of it or else the file's name, whose it is, who uses it."""
    names = ", ".join(one.model_names) or one.path.rpartition("/")[2]
    used = f"{G.ready} {', '.join(one.used_by)}" if one.used_by else ""
    wide = max(room - _FROM_CELLS - _USED_CELLS - 9, 10)
    return Content.assemble(
        f"{bytes_short(one.size_bytes):>6} ",
        (fit(clean(names), wide), "bold" if one.model_names else "$foreground-muted"),
        (f" {fit(clean(', '.join(one.sources)), _FROM_CELLS)}", "$foreground-muted"),
        (f" {fit(clean(used), _USED_CELLS)}", "$success"),
    )


def _places(one: WeightFile) -> list[str]:
    more = f"   and {len(one.paths) - 1} more names" if len(one.paths) > 1 else ""
    return [f"{clean(one.path)}{more}"]


def _told(planned: FilesRemoved) -> list[str]:
    """What goes, and why what stays does."""
    stays = [f"stays: {_short(kept.path)}: {clean(kept.reason)}" for kept in planned.kept]
    hidden = len(stays) - MOST_SHOWN
    stays = [*stays[:MOST_SHOWN], *([f"and {hidden} more stay"] if hidden > 0 else [])]
    if not planned.removed:
        return ["nothing of it can be removed", *stays]
    count = "1 file goes" if len(planned.removed) == 1 else f"{len(planned.removed)} files go"
    return [f"{count}, which frees {bytes_short(planned.freed_bytes)}", *stays]


def _short(path: str) -> str:
    """The file's name; blobs are told by their first digits."""
    name = clean(path.rpartition("/")[2])
    return name if len(name) <= MOST_NAME else fit(name, MOST_NAME)


def _words(exc: XinError) -> str:
    return clean(f"{exc.message}: {exc.hint}" if exc.hint else exc.message)
