"""Bad networks and wrong clocks: what the others show, that nothing wedges, and that streams elsewhere go on."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from namespaces import Host, fleet, missing, pair, until

from xin.client import Client
from xin.protocol.node import LaunchRequest

pytestmark = pytest.mark.slow
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
WORDS = " ".join(f"word{number}" for number in range(400))


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if lacks := missing():
        pytest.skip(f"hosts made of network namespaces need {lacks}")


def echo(host: str, uid: str) -> LaunchRequest:
    return LaunchRequest(model_name="echo", model_uid=uid, node=host, options={"tokens_per_second": 40})


def models(host: Host) -> set[str]:
    return {model.id for model in host.ask(Client.models)}


def said(host: Host, uid: str) -> str:
    asked = [{"role": "user", "content": WORDS}]
    return host.ask(lambda client: client.chat(uid, asked, max_tokens=400)).choices[0].message.content or ""


def test_a_third_of_the_packets_is_lost() -> None:
    """For 20 s one of three hosts loses 30 % of what comes and goes."""
    if shutil.which("nft") is None:
        pytest.skip("lost packets need nft (Debian: nftables)")
    with fleet("ant", "bee", "cat") as (ant, bee, cat):
        until(lambda: all(host.sees(2, "found") for host in (ant, bee, cat)))
        pair(ant, bee, cat)
        until(lambda: all(host.sees(2) for host in (ant, bee, cat)))
        ant.ask(lambda client: client.launch(echo("cat", "elsewhere")))
        ant.ask(lambda client: client.launch(echo("bee", "behind")))
        until(lambda: all(models(host) == {"elsewhere", "behind"} for host in (ant, bee, cat)))
        answers: dict[str, str] = {}
        elsewhere = threading.Thread(target=lambda: answers.update(elsewhere=said(cat, "elsewhere")))
        bee.lose(30)
        try:
            elsewhere.start()
            shown: Counter[str | None] = Counter()
            began = time.monotonic()
            while time.monotonic() - began < 20:
                shown[ant.status("bee")] += 1
                assert ant.status("cat") == "alive"
                listed = models(ant)
                assert "elsewhere" in listed and listed <= {"elsewhere", "behind"}
                time.sleep(0.2)
            elsewhere.join(60)
            lost = bee.lost()
        finally:
            bee.lose(0)
        assert answers["elsewhere"] == WORDS  # it runs on another host, and came at its own pace
        healed = until(lambda: all(host.sees(2) for host in (ant, bee, cat)))
        assert all(models(host) == {"elsewhere", "behind"} for host in (ant, bee, cat))
        assert said(ant, "behind") == WORDS
        assert lost > 20
        total = sum(shown.values())
        shares = ", ".join(f"{status} {count / total:.0%}" for status, count in shown.most_common())
        print(
            f"bee behind 30 % loss ({lost} packets), as ant shows it: {shares}; alive everywhere {healed:.1f} s after"
        )


@pytest.mark.parametrize(("minutes", "words"), [(10, "600 s ahead"), (-10, "600 s behind")])
def test_a_clock_is_ten_minutes_off(tmp_path: Path, minutes: int, words: str) -> None:
    if FAKETIME is None:
        pytest.skip("wrong clocks need libfaketime (Debian: faketime)")
    # Under libfaketime Python's own sleep fails, since it sleeps until a time; select's timeouts are durations.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda s: select.select([], [], [], s) and None\n"
    )
    off = {
        "PYTHONPATH": str(tmp_path),
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{minutes:+d}m",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with fleet("ant", "bee", environs={"bee": off}) as (ant, bee):
        until(lambda: ant.sees(1, "found") and bee.sees(1, "found"))
        pair(ant, bee)
        joined = until(lambda: ant.sees(1) and bee.sees(1))
        ant.ask(lambda client: client.launch(echo("bee", "behind")))
        until(lambda: "behind" in models(ant) and "behind" in models(bee))
        assert said(ant, "behind") == WORDS
        [check] = [one for one in ant.ask(Client.doctor).checks if one.name == "member bee"]
        assert check.state == "fail" and words.split()[-1] in check.message and "its clock is" in check.message
        time.sleep(4)  # more than the silence after which a node is called slow
        assert ant.status("bee") == bee.status("ant") == "alive"
        print(f"{minutes:+d} min: a member {joined:.1f} s after its token; {check.message}")
