"""What the commands typed into the prompt do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from xin.errors import UsageError
from xin.tui.chat import picture
from xin.tui.chat.slash import SPECS, Command
from xin.tui.store import Target
from xin.tui.text import clean
from xin.tui.widgets.pane import blind_words

if TYPE_CHECKING:
    from xin.tui.screens.chat import ChatScreen

BENCH_QUESTION = "Write the numbers from one upwards in words, one after another, and do not stop."


class ChatCommands:
    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen

    def run(self, command: Command) -> None:
        screen = self._screen
        plain: dict[str, Callable[[], object]] = {
            "panes": screen.action_panes,
            "params": screen.action_params,
            "vote": screen.action_vote,
            "blind": screen.action_blind,
            "diff": screen.action_diff,
            "clear": screen.action_clear,
            "branch": screen.branch_session,
            "help": self._help,
            "retry": lambda: screen.answer_again(screen.panes if command.values["all"] else screen.current_panes),
            "save": lambda: screen.action_export(str(command.values.get("path", ""))),
            "rename": lambda: screen.rename_session(command.argument),
            "load": lambda: self._load(command.argument),
            "model": lambda: self._model(command.argument),
            "system": lambda: self._system(command.argument),
            "set": lambda: self._set(str(command.values["field"]), command.values["value"]),
            "image": lambda: self._image(Path(str(command.values["path"])).expanduser()),
            "bench": lambda: self._bench(int(command.values["tokens"])),
        }
        plain[command.name]()

    def _load(self, wanted: str) -> None:
        """An id at once; words are searched for."""
        if wanted.isascii() and wanted.isdecimal() and len(wanted) < 19:
            self._screen.load_session(int(wanted))
        else:
            self._screen.action_sessions(wanted)

    def _model(self, wanted: str) -> None:
        screen = self._screen
        ready = screen.workbench.store.targets()
        exact = [one for one in ready if one.uid == wanted]
        found = exact or [one for one in ready if wanted.casefold() in one.uid.casefold()]
        if len(found) != 1 and not exact:
            names = ", ".join(sorted({one.uid for one in found or ready})) or "none"
            what = "several models are" if found else "no running model is"
            self._warn(f"{what} called {wanted!r}: {names}")
            return
        if screen.pane_row.current is None:
            screen.add_pane(found[0])
        else:
            screen.swap_model(screen.pane_row.current, Target(*found[0]))

    def _system(self, text: str) -> None:
        if not text:
            self._screen.action_params()
            return
        for pane in self._screen.aimed():
            pane.talk.system = text
        self._screen.panes_changed()

    def _set(self, field: str, value: object) -> None:
        for pane in self._screen.aimed():
            pane.talk.sampling.pop(field, None)
            if value is not None:
                pane.talk.sampling[field] = value
        self._screen.panes_changed()

    def _image(self, path: Path) -> None:
        """Attached only where every model that would be asked can see it."""
        aimed = self._screen.aimed()
        if not aimed or blind_words(aimed):
            self._warn(f"{blind_words(aimed) or 'there is no pane'}: nothing was attached")
        else:
            self._screen.run_worker(self._attach(path), group="attach")

    async def _attach(self, path: Path) -> None:
        try:
            self._screen.prompt.attach(await asyncio.to_thread(picture.load, path))
        except UsageError as exc:
            self._warn(clean(exc.message))

    async def dropped(self, path: Path, text: str) -> None:
        """A paste that looks like an image's path: a chip where there is such a file and models see, else text."""
        prompt, aimed = self._screen.prompt, self._screen.aimed()
        try:
            if not aimed or blind_words(aimed):
                raise UsageError("it would not be seen")
            prompt.attach(await asyncio.to_thread(picture.load, path))
        except UsageError:
            prompt.insert(text)

    def _bench(self, tokens: int) -> None:
        fields = {"max_tokens": tokens, "ignore_eos": True}
        self._screen.send(BENCH_QUESTION, fields=fields)

    def _help(self) -> None:
        from xin.tui.dialogs.slash_help import SlashHelp

        self._screen.app.push_screen(SlashHelp(SPECS))

    def _warn(self, text: str) -> None:
        self._screen.workbench.say(text, severity="warning")
