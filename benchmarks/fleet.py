"""What a cluster costs and how soon it notices: nodes on hosts made of network namespaces, on one bridge.

python benchmarks/fleet.py                  three nodes, then twenty: about 2 minutes
python benchmarks/fleet.py --nodes 3,10     other sizes
python benchmarks/fleet.py --relay          what a request through a second node costs, with SmolLM2

Needs root and Linux. All nodes share this machine's cores, so times of many nodes are upper bounds.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psutil

from xin.client import Client
from xin.protocol.node import LaunchRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from namespaces import ENDPOINT, Host, fleet, missing, pair, until

SETTLE_SECONDS = 5.0
SHORT_ROUNDS = 300
STREAM_ROUNDS = 10
STORY = [{"role": "user", "content": "Tell a long story about a whale."}]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="3,20", help="sizes of cluster, by commas [3,20]")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idling that are measured [20]")
    parser.add_argument("--relay", action="store_true", help="only the relay's figures")
    given = parser.parse_args()
    if lacks := missing():
        print(f"missing: {lacks}", file=sys.stderr)
        return 1
    if given.relay:
        relay()
        return 0
    for size in map(int, given.nodes.split(",")):
        print(f"\n{size} nodes", flush=True)
        measure(size, given.idle)
    return 0


def measure(size: int, idle: float) -> None:
    with fleet(*(f"host{index}" for index in range(size))) as hosts:
        tell("all found by all, after the last was ready", until(lambda: all_see(hosts, "found"), 60))
        began = time.monotonic()
        pair(*hosts)
        tell("joined by token, one after another", time.monotonic() - began)
        tell("complete everywhere, after the last joined", until(lambda: all_see(hosts, "peer"), 60))
        time.sleep(SETTLE_SECONDS)
        cost(hosts, idle)
        trouble(*hosts[:2])


def all_see(hosts: list[Host], relation: str) -> bool:
    return all(host.sees(len(hosts) - 1, relation) for host in hosts)


def cost(hosts: list[Host], seconds: float) -> None:
    """CPU and traffic of each while nothing happens: the median over the nodes."""
    processes = [psutil.Process(host.process.pid) for host in hosts if host.process is not None]

    def spent() -> list[tuple[float, int, int]]:
        cpu = [sum(process.cpu_times()[:2]) for process in processes]
        return [(used, *host.traffic()) for used, host in zip(cpu, hosts, strict=True)]

    before = spent()
    time.sleep(seconds)
    rates = [[(b - a) / seconds for a, b in zip(*pair, strict=True)] for pair in zip(before, spent(), strict=True)]
    cpu, received, sent = (statistics.median(column) for column in zip(*rates, strict=True))
    print(f"  idle, each: {cpu:.2%} of a core, {received / 1000:.2f} kB/s in, {sent / 1000:.2f} kB/s out", flush=True)


def trouble(watcher: Host, other: Host) -> None:
    """How soon `watcher` shows what befell `other`."""

    def shows(status: str) -> float:
        return until(lambda: watcher.status(other.name) == status, 60)

    other.pull_cable()
    tell("cable pulled: gone", shows("gone"))
    other.put_cable()
    tell("cable put back: alive", shows("alive"))
    other.move_to(other.far_bridge)
    tell("partition: gone", shows("gone"))
    other.move_to(other.bridge)
    tell("partition healed: alive", shows("alive"))
    other.signal(signal.SIGSTOP)
    tell("SIGSTOP: gone", shows("gone"))
    other.signal(signal.SIGCONT)
    tell("SIGCONT: alive", shows("alive"))
    other.signal(signal.SIGKILL)
    tell("kill -9: gone", shows("gone"))
    other.start()
    other.ready()
    tell("started again, after it was ready: alive", shows("alive"))


def relay() -> None:
    """The same request at the node of the model and at another one, in turns."""
    with fleet("near", "far") as (near, far):
        pair(near, far)
        far.ask(lambda client: client.launch(LaunchRequest(model_name="smollm2", model_uid="smol", node="far")))
        until(lambda: any(model.id == "smol" for model in near.ask(Client.models)))
        latencies = turns((near, far), short_request, SHORT_ROUNDS)
        relayed, direct = (1000 * statistics.median(latencies[name]) for name in ("near", "far"))
        print(
            f"short request, p50: {direct:.2f} ms direct, {relayed - direct:+.2f} ms through a second node", flush=True
        )
        rates = turns((near, far), tokens_a_second, STREAM_ROUNDS)
    ratios = [a / b for a, b in zip(rates["near"], rates["far"], strict=True)]
    print(
        f"tokens a second: {statistics.median(ratios):.3f} of the direct ones ({statistics.median(rates['far']):.0f})"
    )


def turns(hosts: tuple[Host, Host], measured: Callable[[httpx.Client], float], rounds: int) -> dict[str, list[float]]:
    """By host; each goes first in every other round, and the first two rounds do not count."""
    clients = {host.name: host.inside(lambda: httpx.Client(base_url=ENDPOINT, timeout=60)) for host in hosts}
    values: dict[str, list[float]] = {host.name: [] for host in hosts}
    for number in range(rounds + 2):
        for host in hosts if number % 2 else hosts[::-1]:
            value = host.inside(partial(measured, clients[host.name]))
            if number > 1:
                values[host.name].append(value)
    for client in clients.values():
        client.close()
    return values


def short_request(client: httpx.Client) -> float:
    """Seconds for a request that costs the model next to nothing."""
    began = time.perf_counter()
    client.post("/v1/tokenize", json={"model": "smol", "prompt": "hello"}).raise_for_status()
    return time.perf_counter() - began


def tokens_a_second(client: httpx.Client) -> float:
    """Of one stream, from its first chunk on."""
    body = {"model": "smol", "messages": STORY, "stream": True, "max_tokens": 128, "temperature": 0}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        times = [time.perf_counter() for line in answer.iter_lines() if line.startswith("data: {")]
    return (len(times) - 1) / (times[-1] - times[0])


def tell(what: str, seconds: float) -> None:
    print(f"  {what}: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
