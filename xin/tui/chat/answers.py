"""The answers of one turn across panes, as they are compared, voted on and diffed."""

from __future__ import annotations

from collections.abc import Sequence

from xin.tui.chat.conversation import Message
from xin.tui.chat.talk import Talk
from xin.tui.chat.votes import Candidate


def last_turn(talks: Sequence[Talk]) -> int:
    """Of what is shown; 0 when nothing was asked."""
    return max((message.turn for talk in talks for message in talk.conversation.path()[-2:]), default=0)


def next_turn(talks: Sequence[Talk]) -> int:
    return last_turn(talks) + 1


def answer_in(talk: Talk, turn: int) -> Message | None:
    """The answer shown for that turn."""
    return next((one for one in talk.conversation.path() if one.role == "assistant" and one.turn == turn), None)


def answers_of(talks: Sequence[Talk], turn: int) -> list[tuple[Talk, Message]]:
    found = [(talk, answer_in(talk, turn)) for talk in talks]
    return [(talk, answer) for talk, answer in found if answer is not None]


def candidates_of(talks: Sequence[Talk], turn: int) -> list[Candidate]:
    """One each for the panes that answered in that turn."""
    return [
        Candidate(
            pane=talk.index,
            model=answer.model,
            node=talk.node,
            state=answer.state,
            ttft_ms=answer.ttft_ms,
            thinking_ms=answer.thinking_ms,
            tokens_per_second=answer.tokens_per_second,
            completion_tokens=answer.completion_tokens,
            exact=answer.counted,
            system=talk.system,
            sampling=dict(talk.sampling),
        )
        for talk, answer in answers_of(talks, turn)
    ]
