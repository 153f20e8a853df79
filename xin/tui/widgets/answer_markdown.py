"""A Markdown block as lines of a given width. Pure: text in, styled lines out; colours are theme variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it.tree import SyntaxTreeNode
from textual.content import Content, Span

from xin.tui.chat.blocks import Block
from xin.tui.chat.visible import visible
from xin.tui.widgets.answer_table import table_lines
from xin.tui.widgets.code_lines import code_lines

QUOTE, LINK, CODE = "$foreground-muted", "underline $text-primary", "$text-accent on $boost"
HEADINGS = {"h1": "bold underline $text-primary", "h2": "bold $text-primary", "h3": "bold $text-accent"}


@dataclass(slots=True, frozen=True)
class Marks:
    """The drawing characters; `ASCII` for terminals without others."""

    bullets: str = "•◦▪"
    quote: str = "▎"
    rule: str = "─"
    side: str = "│"
    top: str = "┌"
    bottom: str = "└"
    cross: str = "┼"
    bar: str = "▌"
    closed: str = "▸"
    opened: str = "▾"
    before: str = "‹"
    after: str = "›"


UNICODE = Marks()
ASCII = Marks("*o-", "|", "-", "|", "+", "+", "+", ">", "+", "-", "<", ">")


def block_lines(block: Block, width: int, marks: Marks = UNICODE) -> list[Content]:
    """Lines of at most `width` cells each."""
    if block.is_code:
        return code_lines(block.code, block.language, width, marks, open=block.open)
    writer = _Writer(marks)
    return writer.blocks(SyntaxTreeNode(block.tokens).children, max(width, 4))


def text_lines(text: str, width: int, style: str = "") -> list[Content]:
    """Plain text, wrapped; its own line ends are kept."""
    return wrapped(Content.styled(visible(text), style) if style else Content(visible(text)), width)


def wrapped(content: Content, width: int) -> list[Content]:
    return content.expand_tabs(4).wrap(max(width, 2)) or [Content("")]


class _Writer:
    """Walks markdown-it's tree. `depth` is that of lists, for their bullets."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._depth = 0

    def blocks(self, nodes: Sequence[SyntaxTreeNode], width: int, *, tight: bool = False) -> list[Content]:
        lines: list[Content] = []
        for index, node in enumerate(nodes):
            if index and not tight:
                lines.append(Content(""))
            lines += self._block(node, width)
        return lines

    def _block(self, node: SyntaxTreeNode, width: int) -> list[Content]:
        match node.type:
            case "heading":
                style = HEADINGS.get(node.tag, "bold")
                return [line.stylize(style) for line in wrapped(self._inline(node.children), width)]
            case "bullet_list" | "ordered_list":
                return self._list(node, width)
            case "blockquote":
                inner = self.blocks(node.children, max(width - 2, 2))
                mark = Content.styled(f"{self._marks.quote} ", QUOTE)
                return [mark + line.stylize_before(QUOTE) for line in inner]
            case "fence" | "code_block":
                language = (node.info.split() or [""])[0] if node.type == "fence" else ""
                return code_lines(node.content.removesuffix("\n"), language, width, self._marks)
            case "hr":
                return [Content.styled(self._marks.rule * width, QUOTE)]
            case "table":
                rows = [
                    [self._inline(cell.children) for cell in row.children]
                    for part in node.children
                    for row in part.children
                ]
                return table_lines(rows, width, self._marks.side, self._marks.rule, self._marks.cross)
            case "html_block":
                return text_lines(node.content.rstrip("\n"), width, QUOTE)
            case _:
                return wrapped(self._inline(node.children), width)

    def _list(self, node: SyntaxTreeNode, width: int) -> list[Content]:
        self._depth += 1
        number = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
        bullet = self._marks.bullets[(self._depth - 1) % len(self._marks.bullets)]
        tight = all(child.hidden for item in node.children for child in item.children if child.type == "paragraph")
        lines: list[Content] = []
        for index, item in enumerate(node.children):
            marker = f"{bullet} " if number is None else f"{number + index}. "
            if index and not tight:
                lines.append(Content(""))
            inner = self.blocks(item.children, max(width - len(marker), 2), tight=tight) or [Content("")]
            lines.append(Content.styled(marker, "bold $text-accent") + inner[0])
            lines += [Content(" " * len(marker)) + line for line in inner[1:]]
        self._depth -= 1
        return lines

    def _inline(self, nodes: Sequence[SyntaxTreeNode]) -> Content:
        text: list[str] = []
        spans: list[Span] = []
        self._write(nodes, text, spans, 0)
        return Content("".join(text), spans)

    def _write(self, nodes: Sequence[SyntaxTreeNode], text: list[str], spans: list[Span], at: int) -> int:
        for node in nodes:
            began, first = at, len(text)
            style = _INLINE_STYLES.get(node.type, "")
            if node.type in ("inline", "em", "strong", "s", "link"):
                at = self._write(node.children, text, spans, at)
            else:
                text.append(_plain(node))
                at += len(text[-1])
            if style and at > began:
                spans.append(Span(began, at, style))
            if node.type == "link" and (url := visible(str(node.attrs.get("href", "")))) not in "".join(text[first:]):
                text.append(f" ({url})")
                spans.append(Span(at, at + len(text[-1]), QUOTE))
                at += len(text[-1])
        return at


_INLINE_STYLES = {"em": "italic", "strong": "bold", "s": "strike", "link": LINK, "code_inline": CODE}


def _plain(node: SyntaxTreeNode) -> str:
    if node.type in ("softbreak", "hardbreak"):
        return "\n"
    if node.type == "image":
        return f"[image: {visible(node.content) or visible(str(node.attrs.get('src', '')))}]"
    return visible(node.content)
