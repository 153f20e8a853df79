"""Markdown to top-level blocks, each with its exact source, while the text still grows.

Only the last block can still change when text is appended, so only it is parsed again; an open fence is not even
that. `finish` parses the whole text once more, for what only the whole can tell (reference links).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token

_LINE_END = re.compile(r"\r\n|\r|\n")
_BLANK_END = re.compile(r"(?:(?:\r\n|\r|\n)[ \t]*)+\Z")  # a list's lines may include the blank ones after it
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\r\n]*)")


@dataclass(slots=True, eq=False)
class Block:
    """`source` is the slice of the text, without the line end after it; `tokens` are markdown-it's for it alone."""

    kind: str  # paragraph, heading, fence, code_block, bullet_list, ordered_list, blockquote, table, hr, html_block
    start: int
    source: str
    tokens: list[Token]
    open: bool = False  # a fence that has no end yet

    @property
    def is_code(self) -> bool:
        return self.kind in ("fence", "code_block")

    @property
    def language(self) -> str:
        words = self.tokens[0].info.split() if self.kind == "fence" else []
        return words[0] if words else ""

    @property
    def code(self) -> str:
        """The inside of a fence, exactly as it was sent, without its last line end; else the source."""
        fence = _FENCE.match(self.source) if self.kind == "fence" else None
        if fence is None or self.tokens[0].map is None:
            return self.source
        lines = _lines(self.source)[1:]
        if lines and not self.open and _closes(lines[-1], fence[1]):
            lines.pop()
        return _without_line_end("".join(lines))

    @property
    def copied(self) -> str:
        """What copying this block gives."""
        return self.code if self.is_code else self.source


def codes(blocks: list[Block]) -> list[str]:
    """Every piece of code, also that inside of lists and quotes, in the order of the text."""
    found: list[str] = []
    for block in blocks:
        if block.is_code:
            found.append(block.code)
        else:
            found += [_without_line_end(token.content) for token in block.tokens if token.type == "fence"]
    return found


class Document:
    """A text that grows, and its blocks. `settled` counts the blocks in front that will not change any more."""

    def __init__(self, text: str = "") -> None:
        self.text = ""
        self.blocks: list[Block] = []
        self.finished = False
        if text:
            self.append(text)
            self.finish()

    @property
    def settled(self) -> int:
        return len(self.blocks) if self.finished else max(len(self.blocks) - 1, 0)

    def append(self, piece: str) -> None:
        self.text += piece
        self.finished = False
        last = self.blocks[-1] if self.blocks else None
        if last is not None and last.open and self._still_open(last, piece):
            last.source = _without_line_end(self.text[last.start :])
            return
        start = last.start if last is not None else 0
        self.blocks[-1:] = _parse(self.text, start)

    def finish(self) -> None:
        """No more text comes: parse the whole; blocks that come out the same are kept as they are."""
        if self.finished:
            return
        known = {(block.start, block.kind, block.source): block for block in self.blocks}
        fresh = _parse(self.text, 0)
        defined = any("]:" in block.source for block in self.blocks)
        self.blocks = fresh if defined else [_kept(known.get((one.start, one.kind, one.source)), one) for one in fresh]
        self.finished = True

    def _still_open(self, block: Block, piece: str) -> bool:
        fence = _FENCE.match(block.source)
        if fence is None:
            return False
        since = max(self.text.rfind("\n", 0, len(self.text) - len(piece)), block.start)
        return not any(_closes(line, fence[1]) for line in _lines(self.text[since:]))


def _parse(text: str, start: int) -> list[Block]:
    """Blocks of `text` from `start`, which is the start of a line."""
    lines = _lines(text[start:])
    offsets = [start]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    tokens = _parser().parse(text[start:])
    blocks: list[Block] = []
    first = 0
    for index, token in enumerate(tokens):
        if token.level or token.nesting > 0 or token.hidden:
            continue
        opening = tokens[first]
        begin, end = opening.map or (0, len(lines))
        kind = opening.type.removesuffix("_open")
        source = text[offsets[begin] : offsets[min(end, len(lines))]]
        source = _without_line_end(source) if kind == "fence" else _BLANK_END.sub("", source)
        block = Block(kind, offsets[begin], source, tokens[first : index + 1])
        block.open = kind == "fence" and end >= len(lines) and not _is_closed(block.source)
        blocks.append(block)
        first = index + 1
    return blocks


def _kept(old: Block | None, new: Block) -> Block:
    """The block that is drawn already where nothing changed, so that it need not be drawn again."""
    if old is None or old.open != new.open:
        return new
    return old


def _is_closed(source: str) -> bool:
    fence = _FENCE.match(source)
    lines = _lines(source)
    return fence is None or (len(lines) > 1 and _closes(lines[-1], fence[1]))


def _closes(line: str, fence: str) -> bool:
    mark = line.strip(" \t\r\n")
    return len(mark) >= len(fence) and set(mark) == {fence[0]} and len(line) - len(line.lstrip(" ")) < 4


def _lines(text: str) -> list[str]:
    """With their ends; only the ends that Markdown knows."""
    lines: list[str] = []
    at = 0
    for end in _LINE_END.finditer(text):
        lines.append(text[at : end.end()])
        at = end.end()
    if at < len(text):
        lines.append(text[at:])
    return lines


def _without_line_end(text: str) -> str:
    return text[:-2] if text.endswith("\r\n") else text[:-1] if text.endswith(("\n", "\r")) else text


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
