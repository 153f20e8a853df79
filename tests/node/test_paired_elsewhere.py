"""Members that multicast does not reach are looked for where `--peer` says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xin.config import LAN_PORT
from xin.errors import UsageError
from xin.node.paired import PairedFollower
from xin.node.peers import lan_address, loopback_endpoint
from xin.protocol.trust import Member


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("10.1.2.3", ("10.1.2.3", LAN_PORT)),
        ("10.1.2.3:19996", ("10.1.2.3", 19996)),
        ("https://atlas.home:9996/", ("atlas.home", 9996)),
        ("[fd00::7]:9996", ("fd00::7", 9996)),
        ("127.0.0.1:9997", None),
        ("http://localhost:9997", None),
        ("http://10.1.2.3:9997", None),
        ("10.1.2.3/path", None),
        ("user@10.1.2.3", None),
        ("10.1.2.3:99999", None),
    ],
)
def test_an_address_elsewhere_is_a_host_and_a_port(said: str, address: tuple[str, int] | None):
    assert lan_address(said) == address


@pytest.mark.parametrize("said", ["http://10.1.2.3:9997", "10.1.2.3/path", "10.1.2.3:99999", ""])
def test_what_is_neither_is_refused_with_both_forms(said: str):
    with pytest.raises(UsageError) as caught:
        loopback_endpoint(said)
    assert "HOST:PORT" in (caught.value.hint or "")


async def test_each_way_is_tried_in_turn_and_only_the_member_itself_is_asked_for():
    asked: list[tuple[str, str]] = []

    def post(url: str, **settings: Any) -> Any:
        asked.append((url, settings["server_hostname"]))
        raise ConnectionRefusedError

    async def own_member() -> Member:
        return Member(id="b" * 16, name="bee", port=1)

    trust: Any = SimpleNamespace(papers=SimpleNamespace(client=None), is_open=True, own_member=own_member)
    member = Member(id="a" * 16, name="ant", addresses=["10.0.0.1"], port=9996)
    session: Any = SimpleNamespace(post=post)
    unheard = dict.fromkeys(("on_peer", "on_left", "on_samples"))
    follower = PairedFollower(session, trust, member, [("10.9.0.2", 19996), ("fd00::7", 9996)], **unheard)
    for _ in range(4):
        with pytest.raises(ConnectionRefusedError):
            await follower._prove()
    urls = [f"{url}/api/members/greet" for url in ("https://10.0.0.1:9996", "https://10.9.0.2:19996")]
    assert [url for url, _ in asked] == [*urls, "https://[fd00::7]:9996/api/members/greet", urls[0]]
    assert len({name for _, name in asked}) == 1 and "a" * 16 in asked[0][1]
