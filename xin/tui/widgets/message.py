"""One message of a transcript as rows: its stops, which the block cursor walks, and what each of them copies."""

from __future__ import annotations

from dataclasses import dataclass, field

from textual.content import Content

from xin.tui.chat.blocks import Block, Document
from xin.tui.chat.conversation import Message
from xin.tui.chat.picture import about
from xin.tui.widgets.answer_markdown import UNICODE, Marks, block_lines, text_lines

LABEL, DIM = "bold $text-secondary", "$foreground-muted"
QUESTION_LINES = 12  # a pasted file is folded until it is opened


@dataclass(slots=True, frozen=True)
class Row:
    """One line. `stop` counts the places in the message that the cursor can be on; -1 belongs to none."""

    content: Content
    stop: int = -1


BLANK = Row(Content(""))


@dataclass(slots=True, frozen=True)
class Stop:
    """`kind`: question, reasoning, block, error."""

    kind: str
    copied: str
    block: Block | None = None


@dataclass(slots=True)
class Shown:
    """How messages are drawn: what all of them share."""

    width: int = 40
    marks: Marks = UNICODE
    stop_mark: str = "■"
    fail_mark: str = "✗"
    model: str = ""  # of the pane: answers of others are labelled
    keys: str = "r retry   m other model   L log"


@dataclass(slots=True)
class _Drawn:
    width: int
    is_open: bool
    source: str
    lines: list[Content]


@dataclass(slots=True)
class MessageRows:
    """Draws one message. Blocks that have not changed since the last call are not drawn again."""

    message: Message
    document: Document = field(default_factory=Document)
    opened: bool = False  # reasoning, or a long question
    _drawn: dict[int, _Drawn] = field(default_factory=dict)

    def rows(self, shown: Shown, branch: tuple[int, int]) -> tuple[list[Row], list[Stop]]:
        return self._question(shown, branch) if self.message.role == "user" else self._answer(shown, branch)

    def _question(self, shown: Shown, branch: tuple[int, int]) -> tuple[list[Row], list[Stop]]:
        text = self.message.text
        head, cut = (text, False) if self.opened else _cut(text, QUESTION_LINES)
        lines = text_lines(head, shown.width - 5)
        rows = [Row(Content.styled("you  ", LABEL) + lines[0], 0)]
        rows += [Row(Content("     ") + line, 0) for line in lines[1:]]
        if cut:
            more = text.count("\n") + 1 - QUESTION_LINES
            note = f"{more:,} more lines" if more > 0 else f"{len(text) - len(head):,} more characters"
            rows.append(Row(Content.styled(f"     {shown.marks.closed} {note}   enter opens", DIM), 0))
        rows += [Row(Content.styled(f"     [image {about(url)}]", DIM), 0) for url in self.message.images]
        if branch[1] > 1:
            rows.append(Row(_branch(branch, shown.marks, "     "), 0))
        return rows, [Stop("question", text)]

    def _answer(self, shown: Shown, branch: tuple[int, int]) -> tuple[list[Row], list[Stop]]:
        rows: list[Row] = []
        stops: list[Stop] = []
        if self.message.model and self.message.model != shown.model:
            rows.append(Row(Content.styled(text_lines(self.message.model, shown.width)[0].plain, LABEL)))
        if branch[1] > 1:
            rows.append(Row(_branch(branch, shown.marks)))
        if self.message.reasoning:
            rows += self._reasoning(shown, len(stops))
            stops.append(Stop("reasoning", self.message.reasoning))
        self._sync()
        for block in self.document.blocks:
            if rows and (stops or rows[-1].stop >= 0):
                rows.append(BLANK)
            rows += [Row(line, len(stops)) for line in self._block(block, shown)]
            stops.append(Stop("block", block.copied, block))
        self._ending(shown, rows, stops)
        return rows, stops

    def _reasoning(self, shown: Shown, stop: int) -> list[Row]:
        message = self.message
        mark = shown.marks.opened if self.opened else shown.marks.closed
        word = "thought" if message.text or message.state != "streaming" else "thinking"
        parts = [word if message.thinking_ms is None else f"{word} {message.thinking_ms / 1e3:.1f}s"]
        if message.reasoning_tokens:
            parts.append(f"{message.reasoning_tokens} tok")
        rows = [Row(Content.styled(f"{mark} {' · '.join(parts)}", DIM), stop)]
        if self.opened:
            side = Content.styled(f"{shown.marks.quote} ", DIM)
            lines = text_lines(message.reasoning.strip(), shown.width - 2, f"italic {DIM}")
            rows += [Row(side + line, stop) for line in lines]
        return rows

    def _ending(self, shown: Shown, rows: list[Row], stops: list[Stop]) -> None:
        message = self.message
        if message.state == "stopped":
            rows.append(Row(Content.styled(f"{shown.stop_mark} stopped", "bold $text-warning")))
        elif message.finish_reason == "length":
            rows.append(Row(Content.styled(f"{shown.stop_mark} cut at the limit of tokens", "$text-warning")))
        if message.state != "failed":
            return
        if rows:
            rows.append(BLANK)
        where = f"after {message.completion_tokens} tokens" if message.completion_tokens else "before the first token"
        error = message.error or "unknown cause"
        lines = text_lines(f"{shown.fail_mark} failed {where}", shown.width, "bold $text-error")
        lines += [Content("  ") + line for line in text_lines(error, shown.width - 2)]
        if message.hint:
            lines += [Content("  ") + line for line in text_lines(message.hint, shown.width - 2, DIM)]
        lines += [Content("  ") + line for line in text_lines(shown.keys, shown.width - 2, "bold $text-accent")]
        rows += [Row(line, len(stops)) for line in lines]
        stops.append(Stop("error", "\n".join([error, message.hint or ""]).strip()))

    def _sync(self) -> None:
        text = self.message.text
        if not text.startswith(self.document.text):
            self.document = Document()
        if len(text) > len(self.document.text):
            self.document.append(text[len(self.document.text) :])
        if self.message.state != "streaming":
            self.document.finish()

    def _block(self, block: Block, shown: Shown) -> list[Content]:
        """Cached by where it starts: a block keeps its start for good."""
        drawn = self._drawn.get(block.start)
        same = drawn is not None and (drawn.width, drawn.is_open, drawn.source) == (
            shown.width,
            block.open,
            block.source,
        )
        if drawn is not None and same:
            return drawn.lines
        lines = block_lines(block, shown.width, shown.marks)
        if drawn is not None:  # what looks the same stays the same object, and is not painted anew
            known = [
                old if old is new or old.is_same(new) else new for old, new in zip(drawn.lines, lines, strict=False)
            ]
            lines = known + lines[len(known) :]
        self._drawn[block.start] = _Drawn(shown.width, block.open, block.source, lines)
        return lines


def _branch(branch: tuple[int, int], marks: Marks, indent: str = "") -> Content:
    return Content.styled(f"{indent}{marks.before} {branch[0]}/{branch[1]} {marks.after}", "$text-secondary")


def _cut(text: str, lines: int) -> tuple[str, bool]:
    """The first lines, or the first few hundred cells of one that is as long."""
    parts = text.split("\n", lines)
    head = "\n".join(parts[:lines])[: lines * 120]
    return head, len(head) < len(text)
