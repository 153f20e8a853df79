"""Two workbenches on two real nodes that are strangers: digits shown on one, typed on the other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static
from waiting import until

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))
from clustering import Host, hosts

from xin.protocol.trust import Pairing
from xin.tui.app import Workbench
from xin.tui.dialogs.pair import PairWith, ShowDigits, places
from xin.tui.store import NodeView


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with hosts(tmp_path, "ant", "bee") as (ant, bee):
        yield ant, bee


@asynccontextmanager
async def workbench(host: Host, **given: bool) -> AsyncIterator[tuple[Workbench, Pilot[None]]]:
    app = Workbench(host.url, **given)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(lambda: app.store.link.state == "live" and app.store.home is not None)
        yield app, pilot


def text(app: Workbench, id: str) -> str:
    return str(app.screen.query_one(id, Static).render())


async def test_digits_shown_in_one_workbench_are_typed_in_another(pair: tuple[Host, Host]):
    ant, bee = pair
    async with workbench(ant) as (shows, pilot):
        await pilot.press("P")
        await until(lambda: isinstance(shows.screen, ShowDigits) and "s left" in text(shows, "#pair-state"))
        digits = text(shows, "#pair-secret").strip()
        assert len(digits.replace(" ", "")) == 6
        place = text(shows, "#pair-state").split()[2]
        async with workbench(bee) as (types, other):
            types.push_screen(PairWith(NodeView("0123456789abcdef", name="ant", relation="found")), types.say)
            await until(lambda: isinstance(types.screen, PairWith) and types.screen.query("#pair-fault"))
            types.screen.query_one("#pair-address", Input).value = place
            await other.press(*"12", "enter")
            assert "six digits" in text(types, "#pair-fault")
            types.screen.query_one("#pair-digits", Input).value = digits
            await other.press("enter")
            await until(lambda: not isinstance(types.screen, PairWith), 20, "the pairing")
            for app, name in ((shows, "bee"), (types, "ant")):
                await until(
                    lambda app=app, name=name: any(
                        view.name == name and view.relation == "peer" for view in app.store.nodes.values()
                    ),
                    20,
                    name,
                )
            await until(lambda: not isinstance(shows.screen, ShowDigits), 10, "the door's end")


async def test_wrong_digits_are_told_and_a_closed_dialog_closes_the_door(pair: tuple[Host, Host]):
    ant, bee = pair
    async with workbench(ant) as (shows, pilot):
        await pilot.press("P")
        await until(lambda: isinstance(shows.screen, ShowDigits) and "s left" in text(shows, "#pair-state"))
        digits = text(shows, "#pair-secret").replace(" ", "")
        place = text(shows, "#pair-state").split()[2]
        async with workbench(bee) as (types, other):
            types.push_screen(PairWith(NodeView("0123456789abcdef", name=place, relation="found")))
            await until(lambda: isinstance(types.screen, PairWith) and types.screen.query("#pair-fault"))
            types.screen.query_one("#pair-digits", Input).value = f"{(int(digits) + 1) % 1_000_000:06}"
            await other.press("enter")
            await until(lambda: text(types, "#pair-fault").strip() not in ("", "asking …"), 20)
            assert isinstance(types.screen, PairWith)
            await pilot.press("escape")
            await until(lambda: not isinstance(shows.screen, ShowDigits))
            await asyncio.sleep(0.5)
            types.screen.query_one("#pair-digits", Input).value = digits
            await other.press("enter")
            await until(lambda: text(types, "#pair-fault").strip() not in ("", "asking …"), 20)
            assert isinstance(types.screen, PairWith)


async def test_a_read_only_workbench_pairs_nothing(pair: tuple[Host, Host]):
    async with workbench(pair[0], readonly=True) as (app, pilot):
        await pilot.press("P")
        await pilot.pause()
        assert not isinstance(app.screen, ShowDigits)


def test_an_address_is_written_as_a_command_takes_it():
    opened = Pairing(secret="123456", addresses=["192.168.1.2", "fe80::1"], port=9995, seconds=120)
    assert places(opened) == ["192.168.1.2:9995", "[fe80::1]:9995"]
