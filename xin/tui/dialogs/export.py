"""F8: a session as Markdown, JSON or HTML, to a file or the clipboard."""

from __future__ import annotations

import asyncio
import io
import re
import shlex
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from xin.errors import XinError
from xin.tui.chat import clipboard
from xin.tui.dialogs.typing import TypingDialog
from xin.tui.glyphs import G
from xin.tui.text import clean

FORMATS = {
    "md": "Markdown, to read: what is shown",
    "json": "JSON, to import again: all branches",
    "html": "a page for a browser",
}


class ExportDialog(TypingDialog[Path]):
    """Where it was written; None when nothing was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "format(-1)", "format", id="export.up", show=False, priority=True, tooltip="Format above"),
        Binding("down", "format(1)", "format", id="export.down", show=False, priority=True, tooltip="Format below"),
        Binding("alt+c", "clipboard", "clipboard", id="export.clipboard", priority=True, tooltip="To the clipboard"),
    ]

    def __init__(self, session_id: int, title: str = "", *, format: str = "md", path: str = "") -> None:
        keys = f"{G.enter} write   {G.up}{G.down} format   alt+c clipboard   esc back"
        super().__init__("Export the session", keys=keys)
        self._session_id = session_id
        ending = Path(path).suffix.lower().removeprefix(".")
        self._format = ending if ending in FORMATS else format
        self._path = path or f"{file_name(title) or f'session-{session_id}'}.{self._format}"

    def body(self) -> ComposeResult:
        yield Static("", id="export-formats", markup=False)
        yield Input(self._path, id="export-path")
        yield Static("", id="export-note", markup=False)

    def on_mount(self) -> None:
        self._draw()

    # ---- keys

    def action_format(self, by: int) -> None:
        names = list(FORMATS)
        self._format = names[(names.index(self._format) + by) % len(names)]
        box = self.query_one(Input)
        stem = box.value
        for name in names:
            stem = stem.removesuffix(f".{name}")
        box.value = f"{stem}.{self._format}"
        self._draw()

    @work(exclusive=True, group="export")
    async def action_clipboard(self) -> None:
        text = await self._text()
        if text is not None:
            self.workbench.say(await clipboard.copy(self.app, text))
            self.dismiss(None)

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self._write(Path(event.value.strip()).expanduser().absolute())

    # ---- news

    @on(Input.Changed)
    def _on_changed(self, event: Input.Changed) -> None:
        ending = Path(event.value.strip()).suffix.lower().removeprefix(".")
        self._format = ending if ending in FORMATS else self._format
        self._draw()

    # ---- parts

    @work(exclusive=True, group="export")
    async def _write(self, path: Path) -> None:
        exists = not self.app.is_web and await asyncio.to_thread(path.exists)
        if exists and not await self.workbench.ask(f"{path} is there already. Replace it?", danger=True):
            return
        text = await self._text()
        if text is None:
            return
        if self.app.is_web:
            self.app.deliver_text(io.StringIO(text), save_filename=path.name)
            self.dismiss(None)
            return
        try:
            await asyncio.to_thread(path.write_bytes, text.encode())
        except OSError as exc:
            self._note(f"{path}: {exc.strerror}")
            return
        self.workbench.say(clean(f"written to {path}"))
        self.dismiss(path)

    async def _text(self) -> str | None:
        store = self.workbench.sessions
        makers = {"md": store.export_markdown, "json": store.export_json, "html": store.export_html}
        try:
            return await asyncio.to_thread(makers[self._format], self._session_id)
        except XinError as exc:
            self._note(exc.message)
            return None

    def _note(self, fault: str) -> None:
        for line in self.query("#export-note").results(Static):  # none when closed meanwhile
            line.update(f"{G.fail} {clean(fault)}")

    def _draw(self) -> None:
        lines = []
        for name, about in FORMATS.items():
            chosen = name == self._format
            mark = (f"{G.cursor} ", "$accent") if chosen else "  "
            lines.append(Content.assemble(mark, (f"{name:<5}", "bold" if chosen else ""), (about, "$foreground-muted")))
        self.query_one("#export-formats", Static).update(Content("\n").join(lines))
        path = self.query_one(Input).value.strip()
        self.command = f"xin sessions export {self._session_id} -f {self._format} -o {shlex.quote(path)}"


def file_name(title: str) -> str:
    """A title made fit to name a file on every system."""
    return re.sub(r"[^\w.-]+", "-", clean(title)).strip("-.")[:60]
