"""The workbench: four places over one store, and what they share. No node is waited for before the first frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual import events, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.geometry import Size
from textual.screen import Screen
from textual.worker import Worker, WorkerError

from xin.tui import glyphs
from xin.tui import settings as tui_settings
from xin.tui.looks import Looks
from xin.tui.screens.front import Front
from xin.tui.screens.place import Place
from xin.tui.settings import TuiSettings
from xin.tui.store import Store, Target

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.filter import LineFilter

    from xin.client import AsyncClient
    from xin.sessions.store import SessionStore
    from xin.tui.connection import Connection
    from xin.tui.start import Starter

Severity = Literal["information", "warning", "error"]
SAME_TOAST_SECONDS = 5.0
WARM_SECONDS = 1.0
TEXTUALS_ENTER = "\u23ce"
_PLACES = {
    "bench": ("xin.tui.screens.bench", "BenchScreen"),
    "chat": ("xin.tui.screens.chat", "ChatScreen"),
    "jobs": ("xin.tui.screens.jobs", "JobsScreen"),
    "logs": ("xin.tui.screens.logs", "LogsScreen"),
}


def _place(name: str) -> Callable[[], Screen[Any]]:
    """The place's screen, imported when it is first shown."""

    def make() -> Screen[Any]:
        module, kind = _PLACES[name]
        place: Screen[Any] = getattr(import_module(module), kind)()
        return place

    return make


class Workbench(App[None]):
    """`endpoint`: the node to talk to; None = find one. `connect=False`: talk to nobody (tests)."""

    FRONT: ClassVar[bool] = False  # paint the frame first, then import the place
    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "xin"
    MODES = {name: _place(name) for name in _PLACES}
    DEFAULT_MODE = "bench"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "keys", id="help", priority=True, show=False, tooltip="What the keys do here"),
        Binding("question_mark", "help", "keys", id="help.letter", tooltip="What the keys do here"),
        Binding(
            "ctrl+p", "command_palette", "palette", id="palette", priority=True, show=False, tooltip="Every action"
        ),
        Binding("colon", "command_palette", "palette", id="palette.letter", show=False, tooltip="Every action"),
        *(
            Binding(str(number), f"place('{name}')", name, id=f"place.{number}", show=False, tooltip=f"Go to {name}")
            for number, name in enumerate(_PLACES, 1)
        ),
        Binding(
            "ctrl+pagedown",
            "next_place(1)",
            "next place",
            id="place.next",
            priority=True,
            show=False,
            tooltip="Go to the next place",
        ),
        Binding(
            "ctrl+pageup",
            "next_place(-1)",
            "previous place",
            id="place.prev",
            priority=True,
            show=False,
            tooltip="Go to the place before",
        ),
        Binding(
            "ctrl+o", "jump", "jump", id="jump", show=False, tooltip="A letter on everything; the letter goes there"
        ),
        Binding("ctrl+l", "repaint", "repaint", id="repaint", show=False, tooltip="Draw the whole screen anew"),
        Binding("ctrl+q", "quit", "quit", id="quit", priority=True, show=False, tooltip="Leave; nodes go on"),
    ]

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        readonly: bool = False,
        ascii: bool = False,
        theme: str | None = None,
        settings: TuiSettings | None = None,
        connect: bool = True,
        starter: Starter | None = None,
        sessions: SessionStore | None = None,
    ) -> None:
        loaded = tui_settings.load() if settings is None else tui_settings.Loaded(settings)
        self._memory = tui_settings.remembered()
        place = self._memory.place if loaded.settings.start == "last" else loaded.settings.start
        self._first_place = place if place in _PLACES else "bench"
        self.DEFAULT_MODE = "front" if self.FRONT else self._first_place  # type: ignore[misc]
        super().__init__()
        self.add_mode("front", lambda: Front(self._first_place))
        self.store = Store()
        self.settings = loaded.settings
        self.readonly = readonly
        self.endpoint = endpoint
        self._connects = connect
        self._starter = starter
        self._sessions = sessions
        self._connection: Connection | None = None
        self._following: Worker[None] | None = None
        self._said: dict[str, float] = {}
        self._looks = Looks(self, theme, loaded)
        glyphs.set_ascii(ascii or self.settings.ascii)

    # ---- what the places share

    @property
    def sessions(self) -> SessionStore:
        """The person's sessions, opened when first wanted; a temporary one when the file cannot be used."""
        if self._sessions is None:
            from xin.errors import SessionFileError
            from xin.sessions.store import SessionStore

            try:
                self._sessions = SessionStore()
            except SessionFileError as exc:
                self._sessions = SessionStore.temporary()
                self.say(f"this session is not kept: {exc.message}", severity="error")
        return self._sessions

    def client(self, node_id: str) -> AsyncClient:
        """A client of that node; "" is the node talked to. Raises Unreachable when it has no address for us."""
        from xin.errors import Unreachable

        view = self.store.node(node_id) if node_id else self.store.home
        endpoint = view.endpoint if view is not None else None if node_id else self.store.link.endpoint
        if not endpoint:
            raise Unreachable(f"no address is known of node {node_id or 'here'}", "see whether it runs: xin nodes")
        return self.connection.client(endpoint)

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            from xin.tui.connection import Connection

            self._connection = Connection(self.store, self._starter)
        return self._connection

    def say(self, text: str, *, severity: Severity = "information", timeout: float | None = None) -> None:
        """A toast; the same words are not said twice in a row."""
        now = time.monotonic()
        self._said = {said: at for said, at in self._said.items() if now - at < SAME_TOAST_SECONDS}
        if text not in self._said:
            self._said[text] = now
            self.notify(text, severity=severity, timeout=timeout, markup=False)

    async def ask(self, question: str, *, command: str = "", danger: bool = False) -> bool:
        """A question with yes and no. Await it in a worker."""
        from xin.tui.dialogs.confirm import Confirm

        if not self.settings.confirm:
            return True
        answer: bool | None = await self.push_screen_wait(Confirm(question, command=command, danger=danger))
        return bool(answer)

    def copy(self, text: str) -> None:
        """To the clipboard, and tell how much."""
        self.copy_to_clipboard(text)
        self.say(f"copied {len(text)} characters")

    # ---- going from place to place

    def open_chat(self, targets: list[Target], *, prompt: str = "") -> None:
        """Chat with these models, a pane each; the prompt is typed in, not sent. Calls ChatScreen.open_targets."""
        self.call_later(self._open, "chat", "open_targets", targets, prompt)

    def open_logs(self, node_id: str, uid: str) -> None:
        """Calls LogsScreen.open_source."""
        self.call_later(self._open, "logs", "open_source", node_id, uid)

    def open_job(self, node_id: str, job_id: str) -> None:
        """Calls JobsScreen.open_job."""
        self.call_later(self._open, "jobs", "open_job", node_id, job_id)

    def open_launch(self, model_name: str = "") -> None:
        """The launch dialog, over whatever is shown."""
        if self.readonly:
            self.say("this workbench is read-only", severity="warning")
            return
        module = import_module("xin.tui.dialogs.launch")
        self.push_screen(module.LaunchDialog(model_name))

    def _places(self) -> list[Place]:
        """Those that were shown already."""
        stacks = self._screen_stacks.values()
        return [stack[0] for stack in stacks if stack and isinstance(stack[0], Place)]

    async def action_place(self, name: str) -> None:
        if not self.screen.is_modal and self.current_mode != name:
            await self.switch_mode(name)

    async def action_next_place(self, by: int) -> None:
        names = list(_PLACES)
        await self.action_place(names[(names.index(self.current_mode) + by) % len(names)])

    async def _open(self, place: str, method: str, *args: Any) -> None:
        if self.current_mode != place:
            await self.switch_mode(place)
        opener = getattr(self.screen_stack[0], method, None)
        if opener is not None:
            opener(*args)

    # ---- keys of all places

    def action_repaint(self) -> None:
        self.refresh(repaint=True, layout=True)
        self.screen.refresh(repaint=True, layout=True)

    def action_help(self) -> None:
        from xin.tui.dialogs.help import Help

        self.pop_screen() if isinstance(self.screen, Help) else self.push_screen(Help(self.screen))

    def action_jump(self) -> None:
        from xin.tui.dialogs.jump import Jump

        reachable = [widget for widget in self.screen.focus_chain if widget.region.area]
        self.push_screen(Jump(reachable), lambda widget: self.set_focus(widget) if widget is not None else None)

    async def action_quit(self) -> None:
        """At once if nothing goes on, else after a yes."""
        from xin.tui.dialogs.quit import Quit, goes_on

        if isinstance(self.screen, Quit):
            self.exit()
            return
        ending = [line for place in self._places() for line in place.leaving()]
        going_on = goes_on(self.store)
        if self.settings.confirm and (going_on or ending):
            self.push_screen(Quit(going_on, ending), lambda leave: self.exit() if leave else None)
        else:
            self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        from xin.tui.palette import commands

        return commands(self, screen)

    def get_key_display(self, binding: Binding) -> str:
        """F2, not f2; one sign for enter; with ASCII alone its name."""
        shown = super().get_key_display(binding).replace(TEXTUALS_ENTER, glyphs.G.enter)
        if glyphs.is_ascii() and not shown.isascii():
            from xin.tui.ascii_filter import KEY_NAMES

            for sign, name in KEY_NAMES.items():
                shown = shown.replace(sign, name)
        return shown.upper() if len(shown) > 1 and shown[0] == "f" and shown[1:].isdecimal() else shown

    def get_line_filters(self) -> Sequence[LineFilter]:
        if not glyphs.is_ascii():
            return super().get_line_filters()
        from xin.tui.ascii_filter import AsciiFilter

        return [*super().get_line_filters(), AsciiFilter()]

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        for binding in clashed_bindings:
            self._looks.tell(f"keymap: {binding.key} is wanted twice; {binding.id or binding.action} has lost it")

    def get_css_variables(self) -> dict[str, str]:
        """As the theme has them, but with muted text in a colour of its own: `Content` cannot draw an automatic one."""
        variables = super().get_css_variables()
        variables.setdefault("foreground-disabled", variables["foreground-muted"])
        for name in ("muted", "disabled"):
            if variables[f"text-{name}"].startswith("auto"):
                variables[f"text-{name}"] = variables[f"foreground-{name}"]
        return variables

    # ---- life

    def on_mount(self) -> None:
        self.set_keymap(self.settings.keymap)
        self.call_after_refresh(self._begin)

    def on_resize(self, event: events.Resize) -> None:
        if not isinstance(self.screen, Front):
            self._guard_size(event.size)

    def _guard_size(self, size: Size) -> None:
        from xin.tui.dialogs.too_small import TooSmall, is_too_small

        if is_too_small(size) and not isinstance(self.screen, TooSmall):
            self.push_screen(TooSmall())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Before the first place is there, one can only leave."""
        return action == "quit" or not (self._screen_stack and isinstance(self.screen, Front))

    def _begin(self) -> None:
        """After the first frame: what is slow to import, and the search for a node."""
        if not self.is_running:
            return
        if isinstance(self.screen, Front):
            self._enter(self.screen)
        self._looks.begin()
        if self._connects:
            self._following = self._follow(self.endpoint)

    @work(group="enter", exclusive=True)
    async def _enter(self, front: Front) -> None:
        await self.switch_mode(self._first_place)
        self.remove_mode("front")
        self._guard_size(self.size)
        for key in front.typed:
            self.simulate_key(key)
        await asyncio.sleep(WARM_SECONDS)
        for module, _ in _PLACES.values():
            await asyncio.to_thread(import_module, module)  # so that a place is there at once when it is wanted

    def connect(self, endpoint: str) -> None:
        """Talk to the node there instead."""
        self.endpoint = endpoint
        self._following = self._follow(endpoint)

    @work(group="connection", exclusive=True)
    async def _follow(self, endpoint: str | None) -> None:
        await asyncio.to_thread(import_module, "xin.tui.connection")
        await self.connection.run(endpoint, may_start=not self.readonly)

    @work(group="start-node", exclusive=True)
    async def action_start_node(self) -> None:
        """Start a node here; the connection finds it by itself."""
        from xin.errors import XinError

        try:
            await self.connection.start_here()
        except XinError as exc:
            self.say(f"{exc.message}{': ' + exc.hint if exc.hint else ''}", severity="error")

    def focus_of(self, place: str) -> str:
        """The id of the widget that had the focus there when the last run ended, for who goes on where that was."""
        return self._memory.focus.get(place, "") if self.settings.start == "last" else ""

    def exit(self, result: None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        self._remember()
        super().exit(result, return_code, message)

    def _remember(self) -> None:
        focus = {place.PLACE: place.focused.id for place in self._places() if place.focused and place.focused.id}
        tui_settings.remember(tui_settings.Remembered(place=self.current_mode, focus={**self._memory.focus, **focus}))

    async def on_unmount(self) -> None:
        if self._following is not None:  # its sockets close while it is awaited
            if not self._following.is_cancelled:
                self._following.cancel()
            with suppress(WorkerError):
                await self._following.wait()
        if self._connection is not None:
            await self._connection.close()
        if self._sessions is not None:
            self._sessions.close()
