"""Images in the Chat: typed, pasted or dropped paths become chips, go to models that see, and stay in the session."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.events import Paste
from textual.pilot import Pilot
from waiting import until

from tests.live_node import LiveNode
from xin.sessions.store import SessionStore
from xin.tui.app import Workbench
from xin.tui.chat.picture import pasted_path
from xin.tui.screens.chat import ChatScreen
from xin.tui.store import Target

GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(2048)
SAID = "[GIF of 640 x 480 pixels, 2058 bytes]"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("seeing")) as node:
        node.launch(model_uid="sees", vision=True)
        node.launch(model_uid="blind")
        yield node


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "my [grey] cat.gif"
    path.write_bytes(GIF)
    return path


@asynccontextmanager
async def chatting(url: str, *uids: str) -> AsyncIterator[tuple[Workbench, ChatScreen, Pilot[None]]]:
    app = Workbench(url)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(lambda: {target.uid for target in app.store.targets()} >= set(uids))
        assert app.store.home is not None
        app.open_chat([Target(app.store.home.id, uid) for uid in uids])
        await until(lambda: isinstance(app.screen, ChatScreen) and len(app.screen.panes) == len(uids))
        assert isinstance(app.screen, ChatScreen)
        yield app, app.screen, pilot


def shown(app: Workbench) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def answered(screen: ChatScreen, count: int) -> list[str]:
    """The last answers of all panes, once each has `count` messages and is at rest."""
    talks = screen.talks
    await until(lambda: all(len(talk.conversation) == count and not talk.streaming for talk in talks))
    return [talk.conversation.leaf.text for talk in talks]  # type: ignore[union-attr]


async def test_a_dropped_file_is_a_chip_that_is_sent_shown_and_kept(node: LiveNode, cat: Path):
    async with chatting(node.url, "sees") as (app, screen, pilot):
        screen.prompt.put("what is ")
        app.post_message(Paste("'" + str(cat) + "' "))
        await until(lambda: screen.prompt.text == "what is [image my (grey) cat.gif 2K #1] ")
        await pilot.press("i", "t", "enter")
        assert await answered(screen, 2) == [f"what is it\n{SAID}"]
        await pilot.pause()
        assert "[image gif 2K]" in shown(app) and screen.prompt.text == ""
        screen.prompt.put("and now")
        await pilot.press("enter")
        assert await answered(screen, 4) == ["and now"]
        session = screen.session.id
    assert session is not None
    with SessionStore() as store:
        first = store.load(session).messages[0]
        assert first.text == "what is it" and [url[:22] for url in first.images] == ["data:image/gif;base64,"]
        assert "*(image)*" in store.export_markdown(session)
        assert f'<img alt="image" src="{first.images[0]}">' in store.export_html(session)


async def test_a_typed_command_attaches_and_backspace_takes_it_off(node: LiveNode, cat: Path):
    async with chatting(node.url, "sees") as (_, screen, pilot):
        screen.prompt.put(f"/image '{cat}'")
        await pilot.press("enter")
        await until(lambda: screen.prompt.text.endswith("#1] "))
        await pilot.press("backspace", "backspace")
        assert screen.prompt.text == ""
        screen.prompt.put(f"/image '{cat}'")
        await pilot.press("enter")
        await until(lambda: screen.prompt.text.endswith("#1] "))
        screen.prompt.move_cursor((0, 0))
        screen.prompt.insert(f"/image '{cat}'")
        await pilot.press("enter")
        await until(lambda: screen.prompt.text.count("[image") == 2)
        await pilot.press("enter")
        assert await answered(screen, 2) == [f"{SAID}\n{SAID}"]
        assert screen.session.title == "image"


async def test_an_image_is_sent_to_nobody_when_one_of_the_panes_is_blind(node: LiveNode, cat: Path):
    async with chatting(node.url, "sees", "blind") as (app, screen, pilot):
        said: list[str] = []
        app.say = lambda text, **_: said.append(text)  # type: ignore[method-assign]
        app.post_message(Paste(str(cat).replace(" ", "\\ ")))
        await until(lambda: screen.prompt.text == str(cat).replace(" ", "\\ "))
        screen.prompt.clear_all()
        await pilot.press("alt+a")
        app.post_message(Paste(cat.as_uri()))
        await until(lambda: "[image" in screen.prompt.text)
        chip = screen.prompt.text
        await pilot.press("alt+a", "enter")
        await until(lambda: said == ["blind takes no images: nothing was sent"])
        assert screen.prompt.text == chip and [len(talk.conversation) for talk in screen.talks] == [0, 0]


async def test_what_is_no_image_is_said_and_a_path_that_leads_nowhere_is_text(node: LiveNode, tmp_path: Path):
    async with chatting(node.url, "sees") as (app, screen, pilot):
        said: list[str] = []
        app.say = lambda text, **_: said.append(text)  # type: ignore[method-assign]
        (tmp_path / "text.png").write_text("not at all")
        for path, words in ((tmp_path / "text.png", "is no image"), (tmp_path / "none.png", "cannot be read")):
            screen.prompt.put(f"/image {path}")
            await pilot.press("enter")
            await until(lambda words=words: said and words in said[-1])
            screen.prompt.clear_all()
            app.post_message(Paste(f"{path}"))
            await until(lambda path=path: screen.prompt.text == str(path))
            screen.prompt.clear_all()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/a/b.png", "/a/b.png"),
        ("/a/b c.JPG \n", "/a/b c.JPG"),
        ("'/a/b c.webp'", "/a/b c.webp"),
        ("/a/b\\ c.gif", "/a/b c.gif"),
        ("file:///a/b%20c.png", "/a/b c.png"),
        ("b.png", None),
        ("/a/b.txt", None),
        ("/a/b.png\n/a/c.png", None),
        ("'/a/b.png", None),
        ("see /a/b.png", None),
        ("", None),
    ],
)
def test_a_paste_is_taken_for_a_path_by_its_look(text: str, path: str | None):
    assert pasted_path(text) == (Path(path) if path else None)
