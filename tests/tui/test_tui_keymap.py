"""Keys and settings of one's own: they take effect, and what is wrong with them is told by file, key and id."""

import pytest
from waiting import until

from xin.tui import keymap, looks, settings
from xin.tui.app import Workbench


def write(text):
    file = settings.settings_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def toasts(app):
    return [toast.message for toast in app._notifications]


async def test_a_key_of_ones_own_takes_the_place_of_the_usual_one():
    write('[keymap]\n"place.2" = "f6,f7"\n')
    app = Workbench(None, connect=False)
    async with app.run_test() as pilot:
        app.screen.set_focus(None)
        await pilot.press("2")
        await pilot.pause()
        assert app.current_mode == "bench"
        await pilot.press("f7")
        await until(lambda: app.current_mode == "chat")
        assert not toasts(app)


async def test_clashes_and_unknown_ids_are_told():
    write('[keymap]\n"place.2" = "f1"\n"no.such" = "f6"\n')
    app = Workbench(None, connect=False)
    async with app.run_test() as pilot:
        await until(lambda: any("no.such: there is no action of this id" in text for text in toasts(app)))
        await until(lambda: any("f1" in text and "place.2" in text for text in toasts(app)))
        await pilot.press("f1")
        await until(lambda: app.is_running)


def test_every_id_is_known_and_the_usual_keys_do_not_clash_among_all_places():
    keymap.load_everything()
    ids = keymap.known()
    assert {"quit", "help", "palette", "place.1", "place.next", "zoom", "jump", "dialog.close"} <= set(ids)
    assert keymap.faults({}) == []
    assert keymap.faults({"quit": "ctrl+q"}) == []


def test_a_key_that_two_now_want_is_a_fault():
    keymap.load_everything()
    (fault,) = keymap.faults({"repaint": "ctrl+q"})
    assert "ctrl+q: both repaint and quit" in fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("theme = 3", "theme: it must be a text in quotes"),
        ("thme = 'x'", "thme: there is no such setting"),
        ("keymap = 3", "keymap: it must be a table"),
        ("[keymap]\nquit = 3", "keymap: quit must be a text in quotes"),
        ("start = 'here'", "start: it must be one of bench"),
        ("= 3", "line 1"),
    ],
)
async def test_a_wrong_setting_costs_only_itself_and_is_told_by_file_and_key(text, fault):
    file = write(f"{text}\n")
    loaded = settings.load()
    assert loaded.settings == settings.TuiSettings()
    assert len(loaded.faults) == 1
    assert loaded.faults[0].startswith(str(file)) and fault in loaded.faults[0]
    app = Workbench(None, connect=False)
    async with app.run_test():
        await until(lambda: any(str(file) in told for told in toasts(app)))


async def test_saved_settings_take_effect_at_once(monkeypatch):
    monkeypatch.setattr(looks, "LOOK_SECONDS", 0.05)
    file = write("")
    app = Workbench(None, connect=False)
    async with app.run_test() as pilot:
        await pilot.pause()
        file.write_text('theme = "moss"\n[keymap]\n"place.3" = "f6"\n')
        await until(lambda: app.theme == "moss")
        await pilot.press("f6")
        await until(lambda: app.current_mode == "jobs")
        file.write_text('theme = "nowhere"\n')
        await until(lambda: any("nowhere" in text for text in toasts(app)))
        assert app.theme == "moss"
