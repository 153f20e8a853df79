"""A fleet with every state in it, at one frozen moment: what the snapshots show."""

from __future__ import annotations

from collections import deque

from xin.protocol.node import (
    Device,
    EngineInfo,
    Event,
    Instance,
    InstanceStats,
    Job,
    JobFile,
    JobStage,
    NodeInfo,
    Peer,
    WorkerInfo,
)
from xin.tui.store import Relation, Store

NOW = 1_790_000_000.0  # 2026-09-21 13:33:20 UTC
GIB = 2**30
CAUSE = "phi-4 does not fit in memory: it needs 9.1 GiB, 6.3 GiB are free"
HINT = "choose a smaller quantization or context_length"
ATLAS, HERA, MINI, RIG = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)


def gpu(index: int, name: str, total: float, used: float, busy: float, watts: float) -> Device:
    return Device(
        id=f"cuda:{index}",
        kind="cuda",
        name=name,
        total_bytes=int(total * GIB),
        free_bytes=int((total - used) * GIB),
        utilization=busy,
        temperature=40 + busy / 3,
        power=watts,
        power_limit=450.0,
    )


def cpu(total: float, used: float, busy: float) -> Device:
    return Device(
        id="cpu",
        kind="cpu",
        name="AMD EPYC 7313",
        total_bytes=int(total * GIB),
        free_bytes=int((total - used) * GIB),
        utilization=busy,
        cores=16,
    )


def model(uid: str, quantization: str, state: str = "ready", **more: object) -> Instance:
    fields: dict[str, object] = {
        "model_uid": uid,
        "model_name": uid,
        "model_engine": "llama.cpp",
        "model_format": "gguf",
        "quantization": quantization,
        "model_ability": ["chat", "generate"],
        "state": state,
        "context_length": 32768,
        "n_parallel": 8,
        "launched_at": NOW - 1700,
        "ready_at": NOW - 1690,
        "load_seconds": 9.8,
        "weights": [f"/models/{uid}.{quantization}.gguf"],
        **more,
    }
    return Instance(**fields)  # type: ignore[arg-type]


def busy(rate: float, running: int = 2, kv: float = 0.27, ttft_ms: float = 84.0) -> InstanceStats:
    return InstanceStats(running, 0, rate, int(kv * 32768), 32768, ttft_ms, 412, 90_118)


def node(node_id: str, name: str, devices: list[Device], days: float) -> NodeInfo:
    return NodeInfo(
        id=node_id,
        name=name,
        version="0.1.0",
        endpoint=f"http://127.0.0.1:{9997 + 'abcd'.index(node_id[0])}",
        pid=4242,
        started_at=NOW - days * 86400,
        platform="Linux x86_64",
        cpu_threads=16,
        devices=devices,
        engines=[EngineInfo("llama.cpp", ["gguf"], True, "0.3.36"), EngineInfo("echo", ["echo"], True, "0.1.0")],
    )


def job(job_id: str, kind: str, title: str, state: str, age: float, **more: object) -> Job:
    fields: dict[str, object] = {
        "id": job_id,
        "kind": kind,
        "title": title,
        "node": "atlas",
        "state": state,
        "created_at": NOW - age,
        "started_at": NOW - age,
        "command": f"xin {kind} {title.split()[0]}",
        **more,
    }
    return Job(**fields)  # type: ignore[arg-type]


def loading() -> Job:
    name = "mistral-24b.Q8_0.gguf"
    stages = [
        JobStage(name="resolve", state="done", detail=name, started_at=NOW - 40, ended_at=NOW - 39.6),
        JobStage(name="start", state="done", detail="pid 4711", started_at=NOW - 39.6, ended_at=NOW - 38),
        JobStage(name="load", state="running", detail="62 %", progress=0.62, started_at=NOW - 38),
        JobStage(name="ready"),
    ]
    return job(
        "j1",
        "launch",
        "mistral-24b Q8_0",
        "running",
        40,
        model_uid="mistral-24b",
        progress=0.62,
        detail="loading 62 %",
        stages=stages,
        files=[JobFile(name=name, total_bytes=25 * GIB, done_bytes=15 * GIB, state="running")],
        bytes_done=15 * GIB,
        bytes_total=25 * GIB,
        bytes_per_second=410e6,
        seconds_left=25.0,
        actions=["cancel"],
    )


def paused() -> Job:
    sizes = {"bytes_done": int(5.9 * GIB), "bytes_total": 19 * GIB}
    actions = ["resume", "cancel", "delete"]
    title = "qwen3-30b-a3b Q4_K_M"
    return job("j2", "download", title, "paused", 900, progress=0.31, detail="paused", actions=actions, **sizes)


def failed() -> Job:
    told = {"cause": CAUSE, "hint": HINT, "actions": ["retry", "delete"], "ended_at": NOW - 690}
    return job("j3", "launch", "phi-4 Q4_K_M", "failed", 700, model_uid="phi-4", progress=0.4, **told)


def built() -> Job:
    return job("j4", "install", "llama.cpp 0.3.36", "done", 4000, progress=1.0, detail="built", ended_at=NOW - 3400)


def atlas_models() -> list[Instance]:
    worker = WorkerInfo(4712, int(1.1 * GIB), {"cuda:0": int(9.1 * GIB)})
    return [
        model("qwen3-8b", "Q8_0", stats=busy(61.4), worker=worker),
        model("llama-3.1-8b-instruct", "Q4_K_M", context_length=65536, stats=busy(86.2, 1, 0.08)),
        model("mistral-24b", "Q8_0", "loading", progress=0.62, stage="loading", ready_at=None),
        model("phi-4", "Q4_K_M", "failed", cause=CAUSE, hint=HINT, ready_at=None),
    ]


def fill(store: Store) -> None:
    """This node, a peer, a peer that is gone, and one that was only found on the network."""
    store.set_link("live", "http://127.0.0.1:9997")
    two = [gpu(0, "RTX 4090", 24, 19.9, 97, 402), gpu(1, "RTX 4090", 24, 2.9, 0, 31)]
    jobs = [loading(), paused(), failed(), built()]
    snapshot(store, node(ATLAS, "atlas", [*two, cpu(128, 31, 12)], 3), atlas_models(), "self", jobs)
    one = [gpu(0, "H100 80GB", 80, 38.4, 64, 391), cpu(256, 44, 3)]
    snapshot(store, node(HERA, "hera", one, 0.4), [model("gemma-3-12b-混合", "Q5_K_M")], "peer")
    snapshot(store, node(MINI, "mini", [cpu(16, 9.5, 71)], 40), [], "peer")
    store.nodes[HERA].addresses, store.nodes[MINI].addresses = ["10.0.0.7"], ["10.0.0.9"]
    store.nodes[MINI].seen_at = NOW - 240
    store.set_status(MINI, "gone")
    found = {"relation": "found", "status": "alive", "version": "0.1.0", "addresses": ["10.0.0.12"], "seen_at": NOW}
    store.put_peer(Peer(id=RIG, name="rig2", **found))  # type: ignore[arg-type]
    measured = store.nodes[ATLAS]
    for uid, rate in (("qwen3-8b", 40.0), ("llama-3.1-8b-instruct", 82.0)):
        measured.rates[uid] = deque((rate + 21 * (step * 7 % 10) / 10 for step in range(60)), maxlen=120)
        measured.ttfts[uid] = deque((80.0 + step % 9 * 12 for step in range(60)), maxlen=120)


def snapshot(
    store: Store, info: NodeInfo, instances: list[Instance], relation: Relation, jobs: list[Job] | None = None
) -> None:
    event = Event(type="snapshot", at=NOW, node=info, instances=instances, jobs=jobs or [])
    store.put_snapshot(event, info.endpoint, relation)
    store.nodes[info.id].seen_at = NOW
