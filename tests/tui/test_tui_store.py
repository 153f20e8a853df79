"""The store: what followers tell becomes what screens draw, and every listener hears of it once a turn."""

import asyncio

import pytest

from xin.protocol.node import Device, Event, Instance, InstanceStats, Job, NodeInfo, Peer, WorkerInfo
from xin.tui.dialogs.details import node_facts
from xin.tui.store import Store, Target
from xin.tui.text import ago, bytes_short, clean, fit
from xin.tui.widgets.bars import memory_bar, progress_bar
from xin.tui.widgets.detail import node_lines
from xin.tui.widgets.node_list import address_of
from xin.tui.widgets.spark import spark

GIB = 2**30


def device(name="cuda:0", kind="cuda", total=24 * GIB, free=20 * GIB, **more):
    return Device(id=name, kind=kind, name=name, total_bytes=total, free_bytes=free, **more)


def instance(uid="a", state="ready", **more):
    return Instance(
        model_uid=uid,
        model_name=uid,
        model_engine="echo",
        model_format="echo",
        quantization="none",
        state=state,
        **more,
    )


def snapshot(node_id="n1", name="atlas", devices=(), instances=(), jobs=(), peers=None, endpoint="http://127.0.0.1:1"):
    node = NodeInfo(id=node_id, name=name, version="1", endpoint=endpoint, pid=1, started_at=1.0, devices=list(devices))
    return Event(type="snapshot", at=1.0, node=node, instances=list(instances), jobs=list(jobs), peers=peers)


def filled(**more):
    store = Store()
    store.put_snapshot(snapshot(**more), "http://127.0.0.1:1", "self")
    return store


async def test_listeners_hear_all_topics_of_a_turn_at_once():
    store, heard = Store(), []
    unlisten = store.listen(heard.append)
    store.put_snapshot(snapshot(instances=[instance()]), "http://127.0.0.1:1", "self")
    store.put_event("n1", Event(type="samples", at=1.0, devices=[device()], workers={}))
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [{"nodes", "instances", "jobs", "samples"}]
    unlisten()
    store.set_link("live", "http://127.0.0.1:1")
    await asyncio.sleep(0)
    assert len(heard) == 1


async def test_what_says_nothing_new_is_no_news():
    store, heard = filled(), []
    store.set_link("live", "x")
    await asyncio.sleep(0)
    store.listen(heard.append)
    store.set_link("live", "x")
    store.heard("n1")
    store.set_status("n1", "alive")
    await asyncio.sleep(0)
    assert heard == []


def test_nodes_stand_in_their_order():
    store = filled()
    for relation, name in (("found", "a"), ("local", "zeta"), ("peer", "b"), ("local", "beta")):
        store.put_peer(Peer(id=f"{relation}{name}", name=name, relation=relation, status="alive"))
    assert [view.name for view in store.nodes.values()] == ["atlas", "beta", "zeta", "b", "a"]
    store.set_home("localzeta")
    assert [(view.name, view.relation) for view in store.nodes.values()][:3] == [
        ("zeta", "self"),
        ("atlas", "local"),
        ("beta", "local"),
    ]
    assert store.home is store.node("localzeta")


def test_a_paired_node_is_where_it_was_heard_and_reached_through_the_one_talked_to():
    store = filled()
    store.set_link("live", "http://127.0.0.1:9997")
    told = NodeInfo(
        id="n2", name="hera", version="1", endpoint="http://127.0.0.1:9997", pid=1, started_at=1.0, lan_port=9996
    )
    for address, shown in (("10.0.0.7", "10.0.0.7:9996"), ("fd00::7", "[fd00::7]:9996")):
        where = {"endpoint": f"https://{address}:9996", "addresses": [address], "lan_port": 9996}
        store.put_peer(Peer(id="n2", name="hera", relation="peer", status="alive", node=told, **where))
        view = store.nodes["n2"]
        assert address_of(view) == shown
        assert ("address", shown) in node_facts(view)
        assert ("reached through", "http://127.0.0.1:9997/api/nodes/n2") in node_facts(view)
        lines = "\n".join(line.plain for line in node_lines(view, 120, now=2.0))
        assert shown in lines
        assert "127.0.0.1" not in lines
    store.put_peer(Peer(id="n3", name="rig", relation="found", status="alive", addresses=["10.0.0.12"]))
    assert address_of(store.nodes["n3"]) == "10.0.0.12"
    assert address_of(store.nodes["n1"]) == "this node"


def test_a_silent_node_keeps_what_it_said():
    store = filled(instances=[instance()])
    seen_at = store.nodes["n1"].seen_at
    store.set_status("n1", "gone")
    store.put_peer(Peer(id="n1", name="atlas", relation="local", status="gone", seen_at=seen_at, instances=[]))
    assert list(store.nodes["n1"].instances) == ["a"]
    assert store.targets() == []
    assert store.targets(ready_only=False) == [Target("n1", "a")]
    assert store.totals().nodes == store.totals().models == 0


def test_events_of_a_node_change_its_models_and_jobs():
    store = filled(instances=[instance(), instance("b", "loading")])
    job = Job(id="j", kind="launch", title="b", state="running", created_at=5.0)
    store.put_event("n1", Event(type="job", at=1.0, job=job))
    assert store.targets() == [Target("n1", "a")]
    assert store.totals().running_jobs == 1
    assert store.jobs() == [("n1", job)]
    store.put_event("n1", Event(type="instance", at=1.0, instance=instance("b")))
    store.put_event("n1", Event(type="instance_removed", at=1.0, model_uid="a"))
    store.put_event("n1", Event(type="job_removed", at=1.0, job_id="j"))
    assert store.targets() == [Target("n1", "b")]
    assert store.jobs() == []
    assert store.instance(Target("n1", "a")) is None is store.instance(Target("nowhere", "a"))
    store.put_event("nowhere", Event(type="instance", at=1.0, instance=instance()))


def test_speeds_are_kept_by_the_second_and_first_tokens_by_the_request():
    store = filled(instances=[instance()])
    for count in range(1, 4):
        stats = InstanceStats(running=1, tokens_per_second=10.0 * count, ttft_ms=50.0, requests_total=count // 2)
        store.put_event("n1", Event(type="instance", at=1.0, instance=instance(stats=stats)))
        store.put_event("n1", Event(type="samples", at=1.0, workers={"a": WorkerInfo(pid=4)}))
    view = store.nodes["n1"]
    assert list(view.rates["a"]) == [10.0, 20.0, 30.0]
    assert list(view.ttfts["a"]) == [50.0]
    assert view.workers["a"].pid == 4
    for _ in range(200):
        store.put_event("n1", Event(type="samples", at=1.0))
    assert len(view.rates["a"]) == 120


def test_totals_count_a_host_once_and_memory_of_gpus_before_ram():
    gpu, part = device(), device("cuda:0/1", parent="cuda:0")
    ram = device("cpu", "cpu", 64 * GIB, 32 * GIB)
    store = filled(devices=[gpu, part, ram])
    store.put_snapshot(snapshot("n2", "beta", [gpu, ram]), "http://127.0.0.1:2", "local")
    totals = store.totals()
    assert (totals.nodes, totals.gpus, totals.used_bytes, totals.total_bytes) == (2, 1, 4 * GIB, 24 * GIB)
    alone = filled(devices=[ram, device("x", "cpu", GIB, None)]).totals()
    assert (alone.gpus, alone.used_bytes) == (0, 32 * GIB)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m\x07", "red"),
        ("\x1b]0;title\x07x\x1b]8;;http://x\x1b\\y", "xy"),
        ("a\nb\tc\r\nd", "a b c d"),
        ("nul\0 bell\a c1\x9b31m", "nul bell c131m"),
        ("\u202eabc\u2066d\ufeff", "abcd"),
        ("👨\u200d👩\u200d👧 ok", "👨👩👧 ok"),
        ("a\ud800b", "ab"),
    ],
)
def test_clean_leaves_nothing_that_moves_a_terminal(text, shown):
    assert clean(text) == shown


def test_fit_counts_cells():
    assert fit("abc", 5) == "abc  "
    assert fit("abcdef", 4) == "abc…"
    assert fit("漢字漢字", 5) == "漢字…"
    assert fit("漢字漢字", 4) == "漢 …"
    assert fit("abc", 0) == ""


def test_numbers_in_few_cells():
    assert [bytes_short(n) for n in (0, 830 * 1024, 512 * 2**20, 17.1 * GIB, 120 * GIB)] == [
        "0B",
        "830K",
        "512M",
        "17.1G",
        "120G",
    ]
    assert [ago(s) for s in (-1, 12.9, 240, 9 * 3600 + 5, 3 * 86400)] == ["0s", "12s", "4m", "9h", "3d"]


def test_bars_tell_something_from_nothing_and_nearly_from_full():
    assert memory_bar(0, 0, 4).plain == "░░░░"
    assert memory_bar(1, 1000, 4).plain == "█░░░"
    assert memory_bar(999, 1000, 4).plain == "███░"
    assert progress_bar(1.0, 4).plain == "████"
    assert spark([0, 1, 2, 4], 6) == "  ▁▃▅█"
    assert spark([5.0] * 10, 3, most=10) == "▅▅▅"
