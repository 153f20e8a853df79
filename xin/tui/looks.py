"""The person's theme and keys: put on at the start, again when their files are saved, kept when a theme is chosen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from textual.theme import Theme

from xin.tui import settings as tui_settings
from xin.tui import themes
from xin.tui.settings import DEFAULT_THEME, Loaded

if TYPE_CHECKING:
    from xin.tui.app import Workbench

LOOK_SECONDS = 1.0


class Looks:
    """Puts the theme on as it is made; `begin` after the first frame. Each fault is told once, by its file and key."""

    def __init__(self, app: Workbench, theme: str | None, loaded: Loaded) -> None:
        self._app = app
        self._wanted = theme or loaded.settings.theme
        self._kept = self._wanted
        self._faults = list(loaded.faults)
        self._told: set[str] = set()
        self._stamps = themes.stamps(tui_settings.settings_file())
        if not self._put_on(self._wanted):
            self._put_on(DEFAULT_THEME)
            self._kept = DEFAULT_THEME

    def begin(self) -> None:
        """The other themes, what is wrong with any of them, and a look at the files now and then if there are some."""
        self._register_all()
        for fault in self._faults:
            self.tell(fault)
        self._app.theme_changed_signal.subscribe(self._app, self._chosen)
        self._check_keys()
        if self._stamps or themes.user_folder().is_dir():
            self._app.set_interval(LOOK_SECONDS, self._look)

    def tell(self, fault: str) -> None:
        if fault not in self._told:
            self._told.add(fault)
            self._app.say(fault, severity="warning", timeout=10)

    # ---- themes

    def _put_on(self, name: str) -> bool:
        """Whether there is such a theme and it can be read; if not, that is told once the first frame is out."""
        if name not in self._app.available_themes:
            file = themes.files().get(name)
            if file is None:
                self._faults.append(f"theme {name}: there is none of this name; ctrl+p lists them")
                return False
            try:
                self._app.register_theme(themes.read(file))
            except themes.ThemeFault as exc:
                self._faults.append(str(exc))
                return False
        self._app.theme = name
        return True

    def _register_all(self) -> None:
        for name, file in themes.files().items():
            if name not in self._app.available_themes:
                try:
                    self._app.register_theme(themes.read(file))
                except themes.ThemeFault as exc:
                    self._faults.append(str(exc))

    def _chosen(self, theme: Theme) -> None:
        """A theme that was chosen stays chosen; one that was only passed through does not."""
        if theme.name == self._kept or theme.name != self._app.theme:
            return
        self._kept = theme.name
        try:
            tui_settings.save_theme(theme.name)
        except OSError as exc:
            self._app.say(f"the theme is not kept: {exc}", severity="warning")
        file = tui_settings.settings_file()
        self._stamps |= {path: stamp for path, stamp in themes.stamps(file).items() if path == file}

    # ---- files that are saved meanwhile

    def _look(self) -> None:
        now = themes.stamps(tui_settings.settings_file())
        if now == self._stamps:
            return
        changed = {file for file in now if now[file] != self._stamps.get(file)}
        self._stamps = now
        self._told.clear()
        for file in changed - {tui_settings.settings_file()}:
            self._read_again(file)
        if tui_settings.settings_file() in changed:
            self._read_settings()

    def _read_again(self, file: Path) -> None:
        try:
            theme = themes.read(file)
        except themes.ThemeFault as exc:
            self.tell(str(exc))
            return
        self._app.register_theme(theme)
        if self._app.theme == theme.name:
            self._app.theme = DEFAULT_THEME if theme.name != DEFAULT_THEME else "textual-dark"
            self._app.theme = theme.name

    def _read_settings(self) -> None:
        loaded = tui_settings.load()
        for fault in loaded.faults:
            self.tell(fault)
        self._app.settings = loaded.settings
        self._app.set_keymap(loaded.settings.keymap)
        self._check_keys()
        if loaded.settings.theme != self._kept:
            self._kept = loaded.settings.theme
            if not self._put_on(self._kept):
                self.tell(self._faults.pop())

    def _check_keys(self) -> None:
        """Every screen has to be imported to know all ids, which is done only for who has set keys."""
        if self._app.settings.keymap:
            self._app.run_worker(self._tell_of_keys(), group="keymap", exclusive=True)

    async def _tell_of_keys(self) -> None:
        from xin.tui import keymap

        await asyncio.to_thread(keymap.load_everything)
        for fault in keymap.faults(self._app.settings.keymap):
            self.tell(fault)
