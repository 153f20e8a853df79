"""What every dialog has in common: a frame with a title, the equal command at its foot, and the keys that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.widgets import Static

from xin.tui.text import clean

if TYPE_CHECKING:
    from xin.tui.app import Workbench

T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """Subclasses yield their widgets in `body`. `command` is the equal shell line; esc dismisses with None.

    `keys` stands in the lower border: what the keys do here.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (150, "-ultra")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]
    BINDING_GROUP_TITLE = "Dialog"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "close", id="dialog.close", tooltip="Close it and change nothing"),
        Binding("y", "copy_command", "copy", id="dialog.copy", tooltip="Copy the equal command"),
    ]
    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        background: $background 60%;
    }
    Dialog > #dialog {
        width: 72;
        max-width: 100%;
        height: auto;
        max-height: 100%;
        padding: 0 1;
        background: $surface;
        border: round $primary;
        border-title-color: $foreground;
        border-title-style: bold;
        border-subtitle-color: $text-muted;
    }
    Dialog #dialog-command {
        height: auto;
        color: $text-muted;
        margin: 1 0 0 0;
    }
    """
    command: reactive[str] = reactive("", init=False)

    def __init__(self, title: str = "", *, command: str = "", keys: str = "esc close") -> None:
        super().__init__()
        self.title = clean(title)
        self._keys = keys
        self.set_reactive(Dialog.command, command)

    @property
    def workbench(self) -> Workbench:
        return cast("Workbench", self.app)

    def body(self) -> ComposeResult:
        """The dialog's own widgets."""
        yield Static("")

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog") as frame:
            yield from self.body()
            line = Static(self._command_line(), id="dialog-command", markup=False)
            line.display = bool(self.command)
            yield line
        frame.border_title = Content(self.title) if self.title else None
        frame.border_subtitle = Content(self._keys)

    def watch_command(self) -> None:
        for line in self.query("#dialog-command").results(Static):
            line.update(self._command_line())
            line.display = bool(self.command)

    def action_close(self) -> None:
        self.dismiss(None)

    def action_copy_command(self) -> None:
        if self.command:
            self.workbench.copy(self.command)

    def _command_line(self) -> Content:
        return Content.assemble(("$ ", "$text-disabled"), clean(self.command), ("   y copy", "$accent"))
