"""What a node recommends: what fits, fast enough, the best first; and how the memory's bandwidth is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_node import LiveNode

from xin.catalog.spec import Family, Shape, Source, Variant, built_in_families
from xin.client import Client
from xin.errors import BadRequest
from xin.node import bandwidth
from xin.node.bandwidth import BandwidthProbe, Measured
from xin.node.recommend import Offer, chosen, merged, offers
from xin.protocol.node import Device, LocalModel, Recommendation, Recommendations

GIB = 2**30
SHAPE = Shape(layers=32, hidden=4096, heads=32, kv_heads=8, ffn=14336, vocabulary=32000)  # 7B
EXPERTS = Shape(layers=32, hidden=4096, heads=32, kv_heads=8, ffn=1792, vocabulary=32000, experts=8, experts_used=1)


def device(id: str = "cpu", kind: str = "cpu", gib: float = 16) -> Device:
    return Device(id=id, kind=kind, name=id, total_bytes=int(gib * GIB), free_bytes=int(gib * GIB))


def family(name: str, released: str = "2025-01", shape: Shape = SHAPE, **fields: Any) -> Family:
    quantizations = fields.pop("quantizations", ["Q2_K", "Q4_K_M", "Q6_K", "BF16"])
    source = Source(kind="huggingface", repo=f"someone/{name}")
    variants = [
        Variant(format="gguf", engine="llama.cpp", quantization=one, size_in_billions=7, source=source)
        for one in quantizations
    ]
    return Family(
        name=name,
        description=name,
        abilities=["chat"],
        context_length=8192,
        released=released,
        shapes={"7": shape},
        variants=variants,
        **fields,
    )


def best(*known: Family, here: list[LocalModel] | None = None, devices: Any = None, speed: float = 0) -> list[Offer]:
    devices = devices or [device()]
    speeds = {one.id: speed for one in devices if one.kind == "cpu"} if speed else {}
    return chosen(offers(list(known), here or [], devices, speeds, "chat"), 5)


def told(found: list[Offer]) -> list[tuple[str, str, str]]:
    return [(one.family.name, one.candidate.quantization, one.device.id) for one in found]


def test_the_most_bits_that_fit_and_are_fast_enough():
    assert told(best(family("one"), speed=400e9)) == [("one", "Q6_K", "cpu")]
    assert told(best(family("one"), speed=42e9)) == [("one", "Q4_K_M", "cpu")]
    [slow] = best(family("one"), speed=20e9)  # none is fast enough: the fewest bits that are any good
    assert slow.candidate.quantization == "Q4_K_M" and 2 < (slow.tokens_per_second or 0) < 8
    assert told(best(family("one"), devices=[device(gib=4.5)], speed=50e9)) == [("one", "Q2_K", "cpu")]
    assert best(family("one"), devices=[device(gib=2)]) == []


def test_what_is_here_and_what_has_a_gpu_comes_first():
    here = LocalModel(
        model_name="one:q2_k",
        model_engine="llama.cpp",
        model_format="gguf",
        quantization="Q2_K",
        model_size_in_billions=7,
        size_bytes=3 * GIB,
        weights=["/one.gguf"],
        context_length=8192,
    )
    [found] = best(family("one"), here=[here], speed=400e9)
    assert found.candidate.quantization == "Q2_K" and found.candidate.downloaded
    [on_gpu] = best(family("one"), devices=[device(), device("cuda:0", "cuda", 8)], speed=400e9)
    assert on_gpu.device.id == "cuda:0" and on_gpu.tokens_per_second is None


def test_newer_ones_first_and_each_family_once():
    found = best(family("old", "2023-07"), family("new", "2025-06"), family("unknown", ""), speed=400e9)
    assert [one.family.name for one in found] == ["new", "old"]
    several = best(*(family(f"family-{n}", "2025-01") for n in range(9)), speed=400e9)
    assert len({one.family.name for one in several}) == len(several) == 5


def test_of_a_mixture_of_experts_only_those_that_a_token_takes_cost_time():
    [dense], [sparse] = best(family("one"), speed=50e9), best(family("one", shape=EXPERTS), speed=50e9)
    assert (sparse.tokens_per_second or 0) > 1.5 * (dense.tokens_per_second or 0)


def test_the_catalogues_own_have_dates_that_are_read():
    dated = [one for one in built_in_families().values() if one.released]
    assert len(dated) >= 20
    assert len(best(*dated, devices=[device(gib=24)], speed=20e9)) == 5
    names = {one.family.name for one in best(*dated, devices=[device(gib=24)], speed=20e9)}
    assert names & {"qwen3", "gemma-3", "gpt-oss", "smollm3"}


def test_of_several_nodes_each_family_where_it_does_best():
    def told(node: str, *models: tuple[str, float]) -> Recommendations:
        made = [
            Recommendation(
                model_name=name, node=node, score=score, quantization="Q4_K_M", model_format="gguf",
                model_engine="llama.cpp", context_length=8192, weights_bytes=1, fetch_bytes=0, need_bytes=1,
                device_id="cpu", device_name="cpu", command=f"xin launch {name}",
            )
            for name, score in models
        ]  # fmt: skip
        return Recommendations(node=node, bytes_per_second=1e9, models=made)

    found = merged(
        told("here", ("a:7b", 3.0), ("b", 2.0)), [told("big one", ("a:70b", 6.0), ("b", 2.0), ("c", 1.0))], 2
    )
    assert [(one.model_name, one.node) for one in found.models] == [("a:70b", "big one"), ("b", "here")]
    assert found.models[0].command == "xin launch a:70b --node 'big one'"
    assert found.models[1].command == "xin launch b" and found.node == "here"


async def test_bandwidth_is_measured_once_while_nothing_else_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    probe = BandwidthProbe(tmp_path / "cache" / "bandwidth.json")
    monkeypatch.setattr("os.getloadavg", lambda: (9.0, 0, 0))
    busy = await probe.of_ram("this", 1)
    assert busy is not None and busy > 1e8 and not (tmp_path / "cache").exists()
    assert await probe.of_ram("this", 1) == busy
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0, 0))
    first = await probe.of_ram("this", 1)
    assert await probe.of_ram("this", 1) == first
    assert await BandwidthProbe(tmp_path / "cache" / "bandwidth.json").of_ram("this", 1) == first

    async def fails(what: str) -> None:
        return None

    monkeypatch.setattr(bandwidth, "_measured", fails)
    assert await probe.of_ram("another CPU", 1) is None
    (tmp_path / "cache" / "bandwidth.json").write_text("{")
    assert await probe.of_ram("this", 1) is None


async def test_a_gpus_bandwidth_is_asked_of_torch_by_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    async def measured(what: str) -> float:
        asked.append(what)
        return 9e11

    monkeypatch.setattr(bandwidth, "_measured", measured)
    probe = BandwidthProbe(tmp_path / "bandwidth.json")
    gpu, mac = device("cuda:1", "cuda"), device("metal:0", "metal")
    busy = Device(id="rocm:0", kind="rocm", name="busy", total_bytes=1, utilization=90.0)
    for one in (gpu, mac, busy, gpu, busy):
        assert await probe.of_gpu(one) == 9e11
    assert asked == ["cuda:1", "mps", "cuda:0"]
    assert await BandwidthProbe(tmp_path / "bandwidth.json").of_gpu(gpu) == 9e11 and len(asked) == 3
    await BandwidthProbe(tmp_path / "bandwidth.json").of_gpu(busy)  # of a busy one nothing was kept
    assert len(asked) == 4


def test_torch_copies_within_a_device_and_says_when_there_is_none():
    assert bandwidth.copied_by_torch("cpu", 4 << 20) > 1e8
    with pytest.raises((RuntimeError, AssertionError)):
        bandwidth.copied_by_torch("cuda:0", 4 << 20)


def test_a_copy_counts_what_it_reads_and_writes():
    assert bandwidth.copied_per_second(2, 1 << 20) > 1e8
    assert Measured("a", 2, 1.0).bytes_per_second == 1.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("recommend")) as node:
        yield node


def test_over_http(node: LiveNode):
    with Client(node.url) as client:
        found = client.recommend(3)
        assert len(found.models) == 3 and found.bytes_per_second
        for one in found.models:
            assert one.command.startswith(f"xin launch {one.model_name} ") and one.tokens_per_second
            assert one.need_bytes > one.weights_bytes and one.fetch_bytes in (0, one.weights_bytes)
            row = next(row for row in client.plan(one.model_name).rows if row.quantization == one.quantization)
            assert row.model_name == one.model_name  # its name is what a launch takes
        assert client.recommend(3, "no-such-ability").models == []
        for query, field in (("n=0", "n"), ("n=many", "n"), ("n=99999", "n"), ("count=1", "count")):
            reply = node.http.get(f"{node.url}/api/recommend?{query}")
            assert reply.status_code == 400 and reply.json()["error"]["param"] == field
        with pytest.raises(BadRequest, match="n is 21"):
            client.recommend(21)
