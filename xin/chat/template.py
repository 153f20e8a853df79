"""ChatTemplate: the Jinja template that came with a model, rendered in a bounded sandbox."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta

from xin.chat.messages import Message, checked, with_parts, with_text
from xin.chat.sandbox import BoundedEnvironment, LimitExceeded, RaisedByTemplate
from xin.chat.tool_prompt import with_objects
from xin.errors import BadRequest, LoadFailed

MAX_SOURCE_CHARS = 1024 * 1024
RESERVED = frozenset({"messages", "bos_token", "eos_token"})

_PROBE = "xin-probe-7c1e"
# What compiling or running foreign code raises, the sandbox's own errors (TemplateError) apart.
_FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """A compiled template; thread-safe. LoadFailed when it does not compile."""

    def __init__(self, source: str, bos_token: str, eos_token: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise LoadFailed(f"the model's chat template has {len(source):,} characters: too many")
        self.source = source
        self.bos_token = bos_token
        self.eos_token = eos_token
        self._environment = BoundedEnvironment()
        try:
            with self._environment.rendering():  # constants are folded while compiling
                self._variables = meta.find_undeclared_variables(self._environment.parse(source))
                self._template = self._environment.from_string(source)
        except TemplateSyntaxError as exc:
            raise LoadFailed(f"the model's chat template is wrong in line {exc.lineno}: {exc.message}") from exc
        except (TemplateError, *_FOREIGN) as exc:
            raise LoadFailed(f"the model's chat template does not compile: {_in_short(exc)}") from exc

    def mentions(self, name: str) -> bool:
        """Whether the template looks at a variable, as in `enable_thinking`."""
        return name in self._variables

    def render(
        self, messages: list[Message], /, *, add_generation_prompt: bool = True, images: bool = False, **variables: Any
    ) -> str:
        """The prompt's text; BadRequest (param `messages`) when the template refuses the messages.

        `images`: it is given image parts, which `shows_images` says that it writes something for.
        """
        if taken := RESERVED & variables.keys():
            name = min(taken)
            raise BadRequest(f"{name} cannot be set from outside", param=f"chat_template_kwargs.{name}")
        *others, last = self._shapes(self._prepared(checked(messages, images=images), images=images))
        for shape in others:
            with suppress(RaisedByTemplate, TemplateError, *_FOREIGN):
                return self._run(shape, add_generation_prompt=add_generation_prompt, **variables)
        try:
            return self._run(last, add_generation_prompt=add_generation_prompt, **variables)
        except RaisedByTemplate as exc:
            raise BadRequest(f"the model's chat template: {exc.message}", param="messages") from exc
        except LimitExceeded as exc:
            raise BadRequest(f"the model's chat template was stopped: {exc.message}", param="messages") from exc
        except (TemplateError, *_FOREIGN) as exc:
            message = f"the model's chat template cannot render these messages: {_in_short(exc)}"
            raise BadRequest(message, param="messages") from exc

    def _shapes(self, messages: list[Message]) -> list[list[Message]]:
        """Calls in messages, in each way that templates are written for: their arguments as objects or as text, and
        no content as None, where the template asks for that, or as ""."""
        if not any(message.get("tool_calls") for message in messages):
            return [messages]
        asks_for_none = "is none" in self.source or "is not none" in self.source
        emptied = [[_without_content(message) for message in messages]] if asks_for_none else []
        shapes = [*emptied, messages]
        return [[_with_calls(one, convert) for one in shape] for shape in shapes for convert in (with_objects, dict)]

    def _run(self, messages: list[Message], **variables: Any) -> str:
        names = {"messages": messages, "bos_token": self.bos_token, "eos_token": self.eos_token}
        with self._environment.rendering():
            return self._template.render({**variables, **names})

    def _prepared(self, messages: list[Message], *, images: bool) -> list[Message]:
        if "developer" not in self.source:
            messages = [m | {"role": "system"} if m["role"] == "developer" else m for m in messages]
        return with_text(messages) if self._takes_text and not images else with_parts(messages)

    @cached_property
    def shows_images(self) -> bool:
        """True for a template that writes something of its own for an image part; found out by trying."""
        text = {"type": "text", "text": _PROBE}
        with suppress(RaisedByTemplate, TemplateError, *_FOREIGN):
            without, beside = (
                self._run([{"role": "user", "content": content}], add_generation_prompt=True)
                for content in ([text], [{"type": "image"}, text])
            )
            return _PROBE in without and beside != without and "'type'" not in beside
        return False

    @cached_property
    def _takes_text(self) -> bool:
        """False for a template that can only walk over a list of parts; found out by trying."""
        text = [{"role": "user", "content": _PROBE}]
        return self._shows_probe(text) or not self._shows_probe(with_parts(text))

    def _shows_probe(self, messages: list[Message]) -> bool:
        try:
            shown = self._run(messages, add_generation_prompt=True)
        except LimitExceeded:
            return True  # the rendering itself will say so
        except (TemplateError, *_FOREIGN):
            return False
        return _PROBE in shown and "'type'" not in shown and '"type"' not in shown


def _with_calls(message: Message, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> Message:
    calls = message.get("tool_calls")
    return message | {"tool_calls": [convert(call) for call in calls]} if calls else message


def _without_content(message: Message) -> Message:
    return message | {"content": None} if message.get("tool_calls") and not message["content"] else message


def _in_short(exc: BaseException) -> str:
    if isinstance(exc, RecursionError):
        return "it is nested too deeply"
    return f"{type(exc).__name__}: {exc}"[:500]
