"""Border titles from plain text, drawn again only when they change."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget


def set_title(widget: Widget, title: str, subtitle: str | None = None) -> None:
    """Nothing in either is markup. A subtitle of None stays as it is."""
    wanted = Content(title)
    if widget.border_title != wanted.markup:
        widget.border_title = wanted
    if subtitle is not None:
        below = Content(subtitle)
        if widget.border_subtitle != below.markup:
            widget.border_subtitle = below
