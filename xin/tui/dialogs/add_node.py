"""Talk to a node by its address."""

from __future__ import annotations

import shlex

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input, Static

from xin.client.wire import base_url
from xin.errors import XinError
from xin.tui.dialogs.dialog import Dialog
from xin.tui.glyphs import G
from xin.tui.text import clean


class AddNode(Dialog[str]):
    """The URL of the node; None when the person thinks better of it."""

    DEFAULT_CSS = """
    AddNode #add-node-fault {
        color: $error;
    }
    """

    def __init__(self) -> None:
        super().__init__("Add a node", keys=f"{G.enter} connect   esc back")

    def body(self) -> ComposeResult:
        yield Static("The address of a node: http://HOST:PORT. On this host, a port is enough.", markup=False)
        yield Input(placeholder="http://127.0.0.1:9997", id="add-node-url")
        yield Static("", id="add-node-fault", markup=False)

    @on(Input.Changed)
    def _on_changed(self, event: Input.Changed) -> None:
        url, fault = _url(event.value)
        self.command = f"xin tui -e {shlex.quote(url)}" if url else ""
        self.query_one("#add-node-fault", Static).update(fault if event.value.strip() else "")

    @on(Input.Submitted)
    def _on_submitted(self, event: Input.Submitted) -> None:
        url, _ = _url(event.value)
        if url:
            self.dismiss(url)


def _url(text: str) -> tuple[str, str]:
    """The base URL, or "" and what is wrong with it."""
    text = text.strip()
    if text.isdigit():
        text = f"http://127.0.0.1:{text}"
    if not text:
        return "", "no address"
    try:
        return base_url(text), ""
    except XinError as exc:
        return "", clean(exc.message)
