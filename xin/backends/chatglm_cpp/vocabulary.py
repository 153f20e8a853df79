"""Text and chat to token ids by the library's own tokenizer; ids to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xin.backends.chatglm_cpp.model_file import CHATGLM, CHATGLM2
from xin.backends.chatglm_cpp.pieces import Pieces
from xin.chat.messages import checked, with_text
from xin.chat.prompt_style import PromptStyle
from xin.errors import BadRequest, UnsupportedParameter

_NO_LIMIT = 1 << 30  # the library cuts off what is longer; the worker refuses it
_MARKS = 2  # [gMASK] and sop, which the library adds to every text
_ROLES = {"developer": "system", "tool": "observation"}
_KNOWN_ROLES = ("system", "user", "assistant", "observation")
_STYLES = {
    CHATGLM: PromptStyle(style_name="CHATGLM", roles=("问", "答"), intra_message_sep="\n"),
    CHATGLM2: PromptStyle(style_name="CHATGLM", roles=("问", "答"), intra_message_sep="\n\n"),
}


class Vocabulary:
    """Called from the preparer thread; the library's tokenizer has no state that a step changes."""

    def __init__(self, tokenizer: Any, family: int, pieces: Pieces) -> None:
        self._tokenizer = tokenizer
        self._family = family
        self._pieces = pieces

    def tokenize(self, text: str, add_special: bool) -> list[int]:
        """Text that looks like a special token is text: the library never reads one out of it."""
        ids: list[int] = self._tokenizer.encode(text, _NO_LIMIT)
        if add_special:
            return ids
        return ids[:-_MARKS] if self._family == CHATGLM else ids[_MARKS:]

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        return self._pieces.first(b"".join(map(self._pieces.piece, tokens)))

    def render(self, messages: list[dict[str, Any]], template_kwargs: dict[str, Any]) -> list[int]:
        """In the family's own form. Raises BadRequest, UnsupportedParameter."""
        for name, value in template_kwargs.items():
            if value not in (None, False):
                raise UnsupportedParameter(f"{name}: ChatGLM's form does not know it", f"leave {name} out", param=name)
        for i, message in enumerate(messages):
            if message.get("tool_calls"):
                param = f"messages[{i}].tool_calls"
                raise UnsupportedParameter("ChatGLM's form has no tool calls", "send text messages", param=param)
        style = _STYLES.get(self._family)
        if style is None:
            return self._with_roles(messages)
        said = with_text(checked(messages))
        if self._family == CHATGLM and [one["role"] for one in said] == ["user"]:
            return self.tokenize(said[0]["content"], True)  # its first question goes without a round
        return self.tokenize(style.render(messages), True)

    def _with_roles(self, messages: list[dict[str, Any]]) -> list[int]:
        """ChatGLM3 and 4 have a special token a role."""
        from chatglm_cpp import ChatMessage

        turns = []
        for i, message in enumerate(with_text(checked(messages))):
            role = _ROLES.get(message["role"], message["role"])
            if role not in _KNOWN_ROLES:
                known = ", ".join(_KNOWN_ROLES)
                raise BadRequest(f"ChatGLM has no role {role!r}", f"it has: {known}", param=f"messages[{i}].role")
            turns.append(ChatMessage(role, message["content"]))
        ids: list[int] = self._tokenizer.apply_chat_template(turns, _NO_LIMIT)
        return ids
