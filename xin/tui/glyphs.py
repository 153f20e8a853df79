"""The signs that go with a word, one cell each but for names of keys: a set for most terminals, and one of ASCII."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Glyphs:
    """The signs in use. Read `G`, at the moment of drawing, so that `set_ascii` reaches everything."""

    ready: str = "●"
    slow: str = "◐"
    gone: str = "○"
    run: str = "▶"
    pause: str = "‖"
    fail: str = "✗"
    done: str = "✓"
    stop: str = "■"
    waiting: str = "·"
    none: str = "—"
    live: str = "◉"
    dot: str = "•"
    middle: str = "·"
    cursor: str = "▌"
    mark: str = "◆"
    star: str = "★"
    enter: str = "↵"
    up: str = "↑"
    down: str = "↓"
    left: str = "←"
    right: str = "→"
    open: str = "▾"
    closed: str = "▸"
    prompt: str = "❯"
    ellipsis: str = "…"
    times: str = "×"
    bar_full: str = "█"
    bar_part: str = "▓"
    bar_empty: str = "░"
    vertical: str = "│"
    horizontal: str = "─"
    sparks: str = "▁▂▃▄▅▆▇█"


UNICODE = Glyphs()
ASCII = Glyphs(
    ready="*",
    slow="~",
    gone="o",
    run=">",
    pause="=",
    fail="x",
    done="+",
    stop="#",
    waiting=".",
    none="-",
    live="*",
    dot=":",
    middle="-",
    cursor=">",
    mark="+",
    star="*",
    enter="Enter",
    up="Up",
    down="Dn",
    left="<",
    right=">",
    open="v",
    closed=">",
    prompt=">",
    ellipsis="~",
    times="x",
    bar_full="#",
    bar_part="=",
    bar_empty="-",
    vertical="|",
    horizontal="-",
    sparks=" ._-=+*#",
)
G = Glyphs()


def set_ascii(wanted: bool) -> None:
    """Draw with ASCII alone from now on, or with everything."""
    for field in fields(Glyphs):
        setattr(G, field.name, getattr(ASCII if wanted else UNICODE, field.name))


def is_ascii() -> bool:
    return ASCII.bar_full == G.bar_full
