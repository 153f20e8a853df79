"""From figures to claims: paired ratios over rounds with their intervals, as JSON and as Markdown."""

from __future__ import annotations

import os
import platform
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESAMPLES = 4000
Samples = dict[str, dict[str, list[dict[str, float]]]]
SERVER, RAW, XIN = "llama.cpp server", "raw loop", "xin"


@dataclass(frozen=True, slots=True)
class Claim:
    """xin's `figure`, over `peer`'s where one is named, must keep the limits.

    `low` bounds the lower end of the interval. `worst`: the limit holds for every round, not for the median.
    """

    scenario: str
    figure: str
    peer: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    low: float | None = None
    worst: bool = False
    peer_figure: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    claim: str
    value: float
    interval: tuple[float, float]
    rounds: int
    limit: str
    met: bool


def claims() -> list[Claim]:
    """The speed that the project promises."""
    promised = [Claim("fresh 1", "gap_p50", RAW, at_most=1.05)]
    for streams in (1, 4, 8, 16):
        scenario = f"fresh {streams}"
        promised += [
            Claim(scenario, "tokens_per_second", SERVER, at_least=1.0, low=0.97),
            Claim(scenario, "ttft_median", SERVER, at_most=1.05),
            Claim(scenario, "ttft_worst", SERVER, at_most=1.05),
        ]
    return [
        *promised,
        Claim("shared prefix", "worst_over_one", at_most=1.3),
        Claim("shared prefix", "tokens_per_second", SERVER, at_least=4.0),
        Claim("follow-up", "ttft", RAW, at_most=1.0),
        Claim("follow-up", "ttft_after_other", RAW, at_most=1.0, peer_figure="ttft"),
        Claim("long prompt", "worst_gap", at_most=0.25, worst=True),
        Claim("long prompt", "beside_over_alone", at_most=1.4),
        Claim("two models", "sum_over_alone", at_least=1.15),
        Claim("two models", "alone", RAW, at_least=0.97),
    ]


def judge(samples: Samples) -> list[Verdict]:
    """A verdict on every claim whose scenario was run on the peers that it needs."""
    return [verdict for claim in claims() if (verdict := _verdict(claim, samples)) is not None]


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the median; the seed is fixed, so that a result can be made again."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    edge = (1 - level) / 2
    return medians[int(edge * RESAMPLES)], medians[min(RESAMPLES - 1, int((1 - edge) * RESAMPLES))]


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "versions": {name: _version(name) for name in ("xin-workbench", "llama-cpp-python", "xllamacpp")},
    }


def markdown(result: dict[str, Any]) -> str:
    """The claims, then the median of every figure; times in milliseconds."""
    host = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    load = f"load average {host['load_average'][0]} at the start, {result['load_average_end'][0]} at the end"
    again = sum(len(rounds) for peers in result["disturbed"].values() for rounds in peers.values())
    load += f"; {again} measurements that others disturbed were done again"
    lines = [f"{host['cpu']}, {host['cores']} cores, {host['platform']}; {versions}; {load}.", ""]
    lines += ["| claim | median | 95 % interval | rounds | limit | met |", "|---|---|---|---|---|---|"]
    for one in result["claims"]:
        low, high = one["interval"]
        met = "yes" if one["met"] else "**no**"
        figures = f"{one['value']:.3g} | {low:.3g} to {high:.3g} | {one['rounds']}"
        lines.append(f"| {one['claim']} | {figures} | {one['limit']} | {met} |")
    for scenario, peers in result["samples"].items():
        lines += ["", *_table(scenario, peers)]
    return "\n".join(lines) + "\n"


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    return [asdict(verdict) for verdict in verdicts]


def _verdict(claim: Claim, samples: Samples) -> Verdict | None:
    peers = samples.get(claim.scenario, {})
    ours = [figures[claim.figure] for figures in peers.get(XIN, [])]
    words = f"{claim.scenario}: {claim.figure}"
    if claim.peer is not None:
        theirs = [figures[claim.peer_figure or claim.figure] for figures in peers.get(claim.peer, [])]
        ours = [mine / other for mine, other in zip(ours, theirs, strict=False) if other]
        words += f", xin / {claim.peer}"
    if not ours:
        return None
    low, high = (min(ours), max(ours)) if claim.worst else interval(ours)
    value = max(ours) if claim.worst else statistics.median(ours)
    limits = [
        (f"≤ {claim.at_most}", claim.at_most is None or value <= claim.at_most, claim.at_most),
        (f"≥ {claim.at_least}", claim.at_least is None or value >= claim.at_least, claim.at_least),
        (f"interval from {claim.low}", claim.low is None or low >= claim.low, claim.low),
    ]
    limit = ", ".join(text for text, _, bound in limits if bound is not None)
    return Verdict(words, value, (low, high), len(ours), limit, all(met for _, met, _ in limits))


def _table(scenario: str, peers: dict[str, list[dict[str, float]]]) -> list[str]:
    names = list(dict.fromkeys(name for rounds in peers.values() for figures in rounds for name in figures))
    lines = [f"| {scenario} | " + " | ".join(_head(name) for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for peer, rounds in peers.items():
        cells = [_cell(name, [figures[name] for figures in rounds if name in figures]) for name in names]
        lines.append(f"| {peer} ({len(rounds)}) | " + " | ".join(cells) + " |")
    return lines


def _head(name: str) -> str:
    return name.replace("_", " ") + (", ms" if _is_time(name) else "")


def _cell(name: str, values: list[float]) -> str:
    if not values:
        return ""
    median = statistics.median(values)
    return f"{1e3 * median:.1f}" if _is_time(name) else f"{median:.3g}"


def _is_time(name: str) -> bool:
    return name.startswith(("ttft", "gap")) or name in ("prefill", "worst_gap")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
