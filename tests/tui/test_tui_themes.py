"""Themes: ours are whole and legible, a person's own are read again when saved, and faults name file and key."""

import pytest
from textual.color import Color
from waiting import until

from xin.tui import looks, settings, themes
from xin.tui.app import Workbench
from xin.tui.settings import TuiSettings

OURS = sorted(file.stem for file in themes.own_folder().glob("*.toml"))
GOOD = 'primary = "#336699"\ndark = true\n'


def workbench(**given):
    return Workbench(None, connect=False, **given)


def own(name, text):
    folder = themes.user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)
    return folder / f"{name}.toml"


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color):
    """Relative luminance (WCAG 2)."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_there_are_enough_of_our_own():
    assert len(OURS) >= 6
    assert {"xin-dark", "xin-light", "okabe", "sixteen"} <= set(OURS)
    assert themes.read(themes.files()["sixteen"]).ansi


@pytest.mark.parametrize("name", sorted(set(OURS) - {"sixteen"}))
def test_what_ours_write_can_be_read(name):
    theme = themes.read(themes.files()[name])
    for color in ("foreground", "primary", "accent", "success", "warning", "error"):
        for ground in ("background", "surface", "panel"):
            ratio = contrast(Color.parse(getattr(theme, color)), Color.parse(getattr(theme, ground)))
            assert ratio >= (7 if color == "foreground" else 4.5 if ground == "background" else 3.5), (
                color,
                ground,
                ratio,
            )


def test_the_colour_blind_theme_tells_good_from_bad_without_red_and_green():
    """Seen with no red cones (Viénot, Brettel and Mollon 1999), they still differ in lightness or in blue."""
    theme = themes.read(themes.files()["okabe"])
    seen = [protanope(Color.parse(color)) for color in (theme.success, theme.error, theme.warning)]
    for index, one in enumerate(seen):
        for other in seen[index + 1 :]:
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.25


def protanope(color):
    red, green, blue = (part**2.2 for part in color.normalized)
    return (0.11238 * red + 0.88762 * green, 0.11238 * red + 0.88762 * green, 0.00401 * red - 0.00401 * green + blue)


@pytest.mark.parametrize("name", OURS)
async def test_every_one_of_ours_can_be_worn(name):
    app = workbench(theme=name)
    async with app.run_test(size=(120, 36)):
        assert app.theme == name
        assert app.current_theme.dark == themes.read(themes.files()[name]).dark
        assert "xin" in app.export_screenshot()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('primary = "blurple"', "primary"),
        ("primary = 7", "primary"),
        ('primry = "#112233"', "primry"),
        ("dark = true", "primary"),
        (GOOD + "luminosity_spread = 'much'", "luminosity_spread"),
        (GOOD + '[variables]\nfooter-key-foreground = "nothing"', "variables.footer-key-foreground"),
        (GOOD + "[variables]\nx = 3", "variables.x"),
        ("primary = ", "Invalid value"),
    ],
)
def test_a_fault_names_its_file_and_key(text, key):
    file = own("mine", text)
    with pytest.raises(themes.ThemeFault) as raised:
        themes.read(file)
    assert str(file) in str(raised.value)
    assert key in str(raised.value)


async def test_a_theme_of_ones_own_is_read_again_when_it_is_saved(monkeypatch):
    monkeypatch.setattr(looks, "LOOK_SECONDS", 0.05)
    file = own("mine", GOOD)
    app = workbench(settings=TuiSettings(theme="mine"))
    async with app.run_test():
        assert app.current_theme.primary == "#336699"
        file.write_text('primary = "#aa0000"\n')
        await until(lambda: app.current_theme.primary == "#aa0000" and app.theme == "mine")
        file.write_text('primary = "no colour"\n')
        await until(lambda: any("mine.toml: primary" in toast.message for toast in app._notifications))
        assert app.current_theme.primary == "#aa0000"
        own("late", 'primary = "#00aa00"\n')
        await until(lambda: "late" in app.available_themes)


@pytest.mark.parametrize("name", ["nowhere", "broken"])
async def test_a_theme_that_cannot_be_worn_is_told_and_the_usual_one_is_worn(name):
    own("broken", "primary = 1")
    app = workbench(settings=TuiSettings(theme=name))
    async with app.run_test():
        assert app.theme == settings.DEFAULT_THEME
        await until(lambda: any(name in toast.message for toast in app._notifications))


async def test_a_chosen_theme_stays_chosen_and_the_rest_of_the_file_as_it_is():
    file = settings.settings_file()
    file.parent.mkdir(parents=True)
    file.write_text('# mine\nascii = false\n\n[keymap]\nquit = "f10"\n')
    app = workbench()
    async with app.run_test() as pilot:
        await pilot.pause()
        app.theme = "moss"
        await until(lambda: 'theme = "moss"' in file.read_text())
        app.theme = "nord"
        await until(lambda: 'theme = "nord"' in file.read_text())
    assert file.read_text() == 'theme = "nord"\n# mine\nascii = false\n\n[keymap]\nquit = "f10"\n'
    assert settings.load().settings.theme == "nord"


async def test_a_theme_for_one_run_is_not_kept():
    async with workbench(theme="paper").run_test() as pilot:
        await pilot.pause()
        assert pilot.app.theme == "paper"
    assert not settings.settings_file().exists()
