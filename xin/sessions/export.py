"""A session as a file: Markdown and HTML to read, JSON to take along. Texts are exact, byte for byte."""

from __future__ import annotations

import html as escaping
import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from xin.errors import BadRequest
from xin.sessions.records import MessageRecord, PaneRecord, SessionRecord, VoteRecord

FORMAT = "xin-session"
VERSION = 1
_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


class SessionFile(msgspec.Struct, kw_only=True):
    """The JSON document."""

    format: str
    version: int
    title: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    panes: list[PaneRecord] = []
    messages: list[MessageRecord] = []
    active: dict[str, int] = {}
    votes: list[VoteRecord] = []


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0


def json(record: SessionRecord) -> str:
    """All of it, to be read by `parse`; messages are numbered from one."""
    new = {message.id: number for number, message in enumerate(record.messages, 1)}
    messages = [
        msgspec.structs.replace(
            message, id=new[message.id], session_id=0, parent=new.get(message.parent) if message.parent else None
        )
        for message in record.messages
    ]
    document = SessionFile(
        format=FORMAT,
        version=VERSION,
        title=record.title,
        created_at=record.created_at,
        updated_at=record.updated_at,
        panes=record.panes,
        messages=messages,
        active={str(pane): new[leaf] for pane, leaf in record.active.items() if leaf in new},
        votes=record.votes,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def parse(text: str | bytes) -> SessionRecord:
    """Raises BadRequest that says what is wrong with it."""
    try:
        head = msgspec.json.decode(text, type=_Head)
        if head.format != FORMAT:
            raise BadRequest('this is not an exported session ("format" is not "xin-session")', _HINT)
        if head.version > VERSION:
            raise BadRequest(f"this session is of version {head.version}; this xin knows {VERSION}", "update xin")
        document = msgspec.json.decode(text, type=SessionFile)
        active = {int(pane): leaf for pane, leaf in document.active.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as exc:
        raise BadRequest(f"this is not an exported session: {exc}", _HINT) from exc
    _check_tree(document.messages)
    return SessionRecord(
        title=document.title,
        created_at=document.created_at or time.time(),
        updated_at=document.updated_at or time.time(),
        panes=document.panes,
        messages=document.messages,
        active=active,
        votes=document.votes,
    )


_HINT = "xin sessions export --json makes one"


def markdown(record: SessionRecord) -> str:
    """Turn by turn, each answer under its model; what was regenerated or edited away is left out."""
    parts = [f"# {_heading(record.title)}\n\n{_about(record)}\n"]
    for turn, messages in _turns(record):
        parts.append(f"\n## Turn {turn}\n")
        for message in messages:
            parts.append(f"\n### {_who(message)}\n\n")
            if message.reasoning:
                parts.append(f"<details><summary>thinking</summary>\n\n{_closed(message.reasoning)}\n\n</details>\n\n")
            parts.append(f"{_closed(message.text)}\n")
            parts += ["\n*(image)*\n"] * len(message.images)
            if figures := _figures(message):
                parts.append(f"\n*{figures}*\n")
    return "".join(parts)


def html(record: SessionRecord) -> str:
    """One page that needs nothing else; answers of a turn stand side by side."""
    title = escaping.escape(record.title or "session")
    body = [f"<h1>{title}</h1><p>{escaping.escape(_about(record))}</p>"]
    for turn, messages in _turns(record):
        body.append(f"<h2>Turn {turn}</h2>")
        asked = [message for message in messages if message.role != "assistant"]
        body += [_article(message) for message in asked]
        body.append('<div class="answers">')
        body += [_article(message) for message in messages if message.role == "assistant"]
        body.append("</div>")
    return _PAGE.replace("TITLE", title, 1).replace("BODY", "\n".join(body), 1)


def _article(message: MessageRecord) -> str:
    thought = f"<details><summary>thinking</summary>{_pre(message.reasoning)}</details>" if message.reasoning else ""
    figures = f"<footer>{escaping.escape(_figures(message))}</footer>" if _figures(message) else ""
    who = escaping.escape(_who(message))
    shown = [url for url in message.images if _IMAGE.match(url)]
    pictures = "".join(f'<img alt="image" src="{escaping.escape(url)}">' for url in shown)
    text = f"{_pre(message.text)}{pictures}"
    return f'<article class="{message.role}"><h3>{who}</h3>{thought}{text}{figures}</article>'


def _pre(text: str) -> str:
    """Line ends stay what they are; a leading one would be dropped by the browser."""
    return "<pre>\n" + escaping.escape(text).replace("\r", "&#13;").replace("\0", "\ufffd") + "</pre>"


def _turns(record: SessionRecord) -> Iterator[tuple[int, list[MessageRecord]]]:
    """What is shown, by turn: a question that all panes got once, then the answers in the order of the panes."""
    shown = _shown(record)
    order = {pane.index: position for position, pane in enumerate(record.panes)}
    for turn in sorted({message.turn for message in shown}):
        of_turn = [message for message in shown if message.turn == turn]
        of_turn.sort(key=lambda message: (order.get(message.pane, len(order)), message.id))
        asked = {message.text: message for message in reversed(of_turn) if message.role != "assistant"}
        answers = [message for message in of_turn if message.role == "assistant"]
        yield turn, [*list(asked.values())[::-1], *answers]


def _shown(record: SessionRecord) -> list[MessageRecord]:
    """The messages on the path to each pane's active leaf."""
    by_id = {message.id: message for message in record.messages}
    leaves = {message.pane: message.id for message in record.messages} | record.active
    on_path: set[int] = set()
    for leaf in leaves.values():
        at = by_id.get(leaf)
        while at is not None and at.id not in on_path:
            on_path.add(at.id)
            at = by_id.get(at.parent) if at.parent is not None else None
    return [message for message in record.messages if message.id in on_path]


def _about(record: SessionRecord) -> str:
    models = ", ".join(dict.fromkeys(message.model for message in record.messages if message.model))
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created_at))
    return f"{when} · {models}" if models else when


def _who(message: MessageRecord) -> str:
    return _heading(message.model) if message.role == "assistant" else {"user": "You"}.get(message.role, message.role)


def _heading(text: str) -> str:
    return " ".join(text.split()) or "session"


def _figures(message: MessageRecord) -> str:
    if message.role != "assistant":
        return ""
    parts: list[Any] = [
        message.state if message.state != "done" else "",
        message.error or "",
        f"first token {message.ttft_ms:.0f} ms" if message.ttft_ms is not None else "",
        f"{message.tokens_per_second:.1f} tokens/s" if message.tokens_per_second is not None else "",
        f"{message.completion_tokens} tokens" if message.completion_tokens else "",
    ]
    return " · ".join(part for part in parts if part)


def _closed(text: str) -> str:
    """The text, and the end of a code fence that it left open, so that what follows is not taken for code."""
    fence = ""
    for line in re.split(r"\r\n|\r|\n", text):
        found = _FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return f"{text}\n{fence}" if fence else text


def _check_tree(messages: list[MessageRecord]) -> None:
    seen: set[int] = set()
    for message in messages:
        if message.id in seen:
            raise BadRequest(f"message {message.id} is there twice", _HINT)
        if message.parent is not None and message.parent not in seen:
            raise BadRequest(f"message {message.id} comes before its parent {message.parent}", _HINT)
        seen.add(message.id)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>TITLE</title><style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 110rem; margin: 2rem auto; padding: 0 1rem }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem }
article { border: 1px solid #8886; border-radius: 8px; padding: .5rem 1rem; min-width: 0 }
h3 { margin: 0 } pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit }
img { max-width: 100%; max-height: 24rem }
footer, summary { opacity: .7; font-size: .85rem }
</style></head><body>
BODY
</body></html>
"""
