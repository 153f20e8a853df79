"""The frame: places, dialogs, keys and words that all places share."""

import asyncio
import signal

import pytest
from live_node import LiveNode
from rich.cells import cell_len
from textual.widgets import Input, Static
from waiting import until

from xin.protocol.node import Event, Instance, NodeInfo
from xin.tui import glyphs
from xin.tui import settings as tui_settings
from xin.tui.app import Workbench
from xin.tui.dialogs.dialog import Dialog
from xin.tui.dialogs.help import Help
from xin.tui.dialogs.quit import Quit
from xin.tui.dialogs.too_small import TooSmall
from xin.tui.screens.place import Place
from xin.tui.settings import Remembered, TuiSettings
from xin.tui.widgets.header import Header
from xin.tui.widgets.key_line import KeyLine

SIZES = [(80, 24), (120, 36), (160, 45)]


def workbench(**given):
    return Workbench(None, connect=False, **given)


def fill(app, uid="echo-1", endpoint="http://127.0.0.1:1"):
    node = NodeInfo(id="n1", name="atlas", version="1", endpoint=endpoint, pid=1, started_at=1.0)
    model = Instance(
        model_uid=uid, model_name="echo", model_engine="echo", model_format="echo", quantization="none", state="ready"
    )
    app.store.put_snapshot(Event(type="snapshot", at=1.0, node=node, instances=[model], jobs=[]), endpoint, "self")
    app.store.set_link("live", endpoint)


@pytest.mark.parametrize("size", SIZES)
async def test_every_place_is_reached_by_its_number_and_by_turning_pages(size):
    app = workbench()
    async with app.run_test(size=size) as pilot:
        assert app.current_mode == "bench"
        for number, name in enumerate(("bench", "chat", "jobs", "logs"), 1):
            app.screen.set_focus(None)
            await pilot.press(str(number))
            await until(lambda name=name: app.current_mode == name)
            assert isinstance(app.screen, Place)
            assert f"{number}" in app.screen.header.text
            assert app.screen.header.size.width == size[0]
        for name in ("bench", "chat"):
            await pilot.press("ctrl+pagedown")
            await until(lambda name=name: app.current_mode == name)
        await pilot.press("ctrl+pageup")
        await until(lambda: app.current_mode == "bench")


async def test_a_digit_in_a_text_field_is_text():
    app = workbench()
    async with app.run_test() as pilot:
        field = Input()
        await app.screen.mount(field)
        field.focus()
        await pilot.press("2", "z", "question_mark", "colon")
        await until(lambda: field.value == "2z?:")
        assert app.current_mode == "bench"
        await pilot.press("f1")
        await until(lambda: isinstance(app.screen, Help))


@pytest.mark.parametrize(
    ("size", "line"), [((120, 36), "1 node · 1 model · 0 tok/s"), ((80, 24), "1 node  1 model  0 t/s")]
)
async def test_the_header_carries_the_fleet_and_the_link(size, line):
    app = workbench()
    async with app.run_test(size=size):
        await until(lambda: "connecting" in app.screen.header.text)
        fill(app)
        await until(lambda: line in app.screen.header.text)
        assert app.screen.header.text.rstrip().endswith("◉ live")
        app.store.set_link("lost", "http://127.0.0.1:1", "gone")
        await until(lambda: "○ lost" in app.screen.header.text)
        app.screen.header.facts = "‹session› turn 4"
        await until(lambda: "turn 4" in app.screen.header.text and "node" not in app.screen.header.text)


async def test_a_place_hears_news_when_it_can_be_seen_and_the_rest_when_it_is_shown():
    class Listening(Place):
        PLACE = "chat"
        heard: list[set[str]] = []

        def store_changed(self, topics):
            self.heard.append(set(topics))

    app = workbench()
    app._modes = {**app._modes, "chat": Listening}
    async with app.run_test() as pilot:
        app.screen.set_focus(None)
        await pilot.press("2")
        await until(lambda: len(Listening.heard) == 1)
        assert Listening.heard[0] == {"nodes", "instances", "samples", "jobs", "link"}
        app.push_screen(Dialog("over it"))
        await until(lambda: isinstance(app.screen, Dialog))
        app.store.changed("samples")
        await until(lambda: Listening.heard[1:] == [{"samples"}])
        await pilot.press("escape")
        await pilot.press("1")
        await until(lambda: app.current_mode == "bench")
        app.store.changed("jobs")
        app.store.changed("samples")
        await pilot.pause()
        assert len(Listening.heard) == 2
        app.screen.set_focus(None)
        await pilot.press("2")
        await until(lambda: Listening.heard[2:] == [{"jobs", "samples"}])


@pytest.mark.parametrize("size", [(60, 16), *SIZES])
@pytest.mark.parametrize("place", ["bench", "chat", "jobs", "logs"])
async def test_the_keys_at_the_foot_fit_and_can_be_clicked(size, place):
    app = workbench(settings=TuiSettings(start=place))
    async with app.run_test(size=size) as pilot:
        line = app.screen.query_one(KeyLine)
        await until(lambda: " keys  ^p" in line.text)
        assert cell_len(line.text) <= size[0]
        assert line.region.y == size[1] - 1
        await pilot.click(KeyLine, offset=(line.text.index(" keys"), 0))
        await until(lambda: isinstance(app.screen, Help))


async def test_help_tells_the_keys_where_the_focus_is_and_closes_by_its_key():
    app = workbench()
    async with app.run_test() as pilot:
        await pilot.press("f1")
        await until(lambda: isinstance(app.screen, Help))
        text = str(app.screen.query_one("#help-scroll Static", Static).visual)
        for words in ("Everywhere", "ctrl", "Go to chat", "Leave; nodes go on"):
            assert words in text or "^" in text
        await pilot.press("f1")
        await until(lambda: not isinstance(app.screen, Help))


async def test_leaving_is_at_once_when_nothing_goes_on():
    app = workbench()
    async with app.run_test() as pilot:
        await pilot.press("ctrl+q")
        await until(lambda: app._exit)


async def test_leaving_says_what_goes_on_and_can_be_thought_better_of():
    app = workbench()
    async with app.run_test() as pilot:
        fill(app, uid="mistral")
        await pilot.press("ctrl+q")
        await until(lambda: isinstance(app.screen, Quit))
        assert "1 model on atlas: mistral" in str(app.screen.query_one("#quit-list", Static).visual)
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Quit))
        await pilot.press("ctrl+q")
        await until(lambda: isinstance(app.screen, Quit))
        await pilot.press("ctrl+q")
        await until(lambda: app._exit)


async def test_who_wants_no_questions_gets_none():
    app = workbench(settings=TuiSettings(confirm=False))
    async with app.run_test() as pilot:
        fill(app)
        assert await app.ask("End it?")
        await pilot.press("ctrl+q")
        await until(lambda: app._exit)


@pytest.mark.parametrize(("key", "answer"), [("enter", True), ("n", False), ("escape", False)])
async def test_a_question_has_a_yes_and_a_no_and_shows_its_command(key, answer):
    app = workbench()
    answers = []
    async with app.run_test() as pilot:

        async def ask():
            answers.append(await app.ask("Stop [bold]x[/]?", command="xin terminate x", danger=True))

        app.run_worker(ask())
        await until(lambda: app.screen.query("#question") and app.screen.is_attached and app.screen.is_mounted)
        assert str(app.screen.query_one("#question", Static).visual) == "Stop [bold]x[/]?"
        assert "$ xin terminate x" in str(app.screen.query_one("#dialog-command", Static).visual)
        await pilot.press("y")
        await until(lambda: app.clipboard == "xin terminate x")
        await pilot.press(key)
        await until(lambda: answers == [answer])


async def test_a_terminal_that_is_too_small_says_what_it_needs():
    app = workbench()
    async with app.run_test(size=(59, 24)) as pilot:
        await until(lambda: isinstance(app.screen, TooSmall))
        assert "60x16" in str(app.screen.query_one(Static).visual)
        await pilot.resize_terminal(40, 5)
        await until(lambda: "40x5" in str(app.screen.query_one(Static).visual))
        await pilot.resize_terminal(60, 16)
        await until(lambda: not isinstance(app.screen, TooSmall))
        for size in ((80, 24), (30, 8), (160, 45), (10, 2), (120, 36)):
            await pilot.resize_terminal(*size)
        await until(lambda: app.screen.size.width == 120 and len(app.screen_stack) == 1)


async def test_toasts_are_plain_text_and_not_repeated():
    app = workbench()
    async with app.run_test(notifications=True) as pilot:
        for _ in range(3):
            app.say("[red]not markup[/] [/broken]")
        app.say("another")
        await pilot.pause()
        assert [toast.message for toast in app._notifications] == ["[red]not markup[/] [/broken]", "another"]


async def test_jump_puts_a_letter_on_what_can_have_the_focus():
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        await app.screen.mount(Input(id="one"), Input(id="two"))
        await pilot.press("ctrl+o")
        await until(lambda: app.screen.query("Label"))
        letters = {str(label.visual): label for label in app.screen.query("Label")}
        assert "a" in letters
        await pilot.press("a")
        await until(lambda: len(app.screen_stack) == 1 and app.screen.focused is not None)


async def test_the_palette_has_every_action_of_the_screen_and_the_app():
    app = workbench()
    async with app.run_test() as pilot:
        titles = {command.title: command for command in app.get_system_commands(app.screen)}
        for words in ("Go to logs", "Leave; nodes go on", "Change the theme", "Start a node here"):
            assert words in titles
        told = {binding.tooltip for _, binding, _, _ in app.screen.active_bindings.values() if binding.id}
        assert told - set(titles) <= {"Every action", ""}
        await titles["Go to logs"].callback()
        await until(lambda: app.current_mode == "logs")
        await pilot.press("ctrl+p")
        await until(lambda: app.screen.query("CommandList"))


async def test_a_readonly_workbench_offers_no_start():
    async with workbench(readonly=True).run_test() as pilot:
        assert "Start a node here" not in {one.title for one in pilot.app.get_system_commands(pilot.app.screen)}


async def test_every_binding_has_an_id_and_says_what_it_does():
    app = workbench()
    async with app.run_test():
        for kind in (Workbench, Place, Dialog, Quit, Help):
            for binding in kind.__dict__.get("BINDINGS", ()):
                assert binding.id and binding.tooltip, binding


async def test_ascii_draws_nothing_else():
    app = workbench(ascii=True)
    async with app.run_test(size=(120, 36)):
        fill(app)
        await until(lambda: "live" in app.screen.header.text)
        assert app.screen.header.text.isascii()
        assert all(getattr(glyphs.G, field).isascii() for field in glyphs.Glyphs.__slots__)


async def test_a_real_node_is_on_the_screen_and_its_client_talks(tmp_path):
    with LiveNode(tmp_path / "node", name="atlas") as node:
        uid = node.launch("echo", model_uid="one")
        app = Workbench(node.url)
        async with app.run_test(size=(120, 36)):
            await until(lambda: "1 node · " in app.screen.header.text and "live" in app.screen.header.text)
            assert (await app.client("").node()).name == "atlas"
            assert app.client(app.store.home.id) is app.client("")
            assert uid in app.store.home.instances
            node.process.send_signal(signal.SIGKILL)
            await until(lambda: "○ lost" in app.screen.header.text, 5)
            assert uid in app.store.home.instances


async def test_the_place_and_its_focus_are_remembered(xin_home):
    app = workbench(settings=TuiSettings(start="last"))
    async with app.run_test() as pilot:
        app.screen.set_focus(None)
        await pilot.press("4")
        await until(lambda: app.current_mode == "logs")
        await pilot.press("ctrl+q")
    assert tui_settings.remembered().place == "logs"
    again = workbench(settings=TuiSettings(start="last"))
    async with again.run_test():
        await until(lambda: again.current_mode == "logs")
    usual = workbench()
    async with usual.run_test():
        assert usual.current_mode == "bench"
    tui_settings.remember(Remembered(place="nowhere"))
    async with workbench(settings=TuiSettings(start="last")).run_test() as pilot:
        assert pilot.app.current_mode == "bench"


async def test_the_header_costs_nothing_when_nothing_changes():
    app = workbench()
    async with app.run_test(size=(120, 36)) as pilot:
        fill(app)
        header = app.screen.query_one(Header)
        await until(lambda: "live" in header.text)
        await pilot.pause()
        painted = []
        header.render_line = lambda y, paint=header.render_line: painted.append(y) or paint(y)
        for _ in range(5):
            app.store.changed("samples")
            await asyncio.sleep(0.01)
        await pilot.pause()
        assert painted == []
