"""What a cluster costs and how soon it notices: nodes on hosts made of network namespaces, on one bridge.

python benchmarks/fleet.py                  three nodes, then twenty: about 2 minutes
python benchmarks/fleet.py --nodes 3,10     other sizes

Needs root and Linux. All nodes share this machine's cores, so times of many nodes are upper bounds.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from namespaces import Host, fleet, missing, pair, until

SETTLE_SECONDS = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="3,20", help="sizes of cluster, by commas [3,20]")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idling that are measured [20]")
    given = parser.parse_args()
    if lacks := missing():
        print(f"missing: {lacks}", file=sys.stderr)
        return 1
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


def tell(what: str, seconds: float) -> None:
    print(f"  {what}: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
