"""What this node runs well: a few models of the catalogue, each in the best quantization that fits.

Pure but for `Recommender`, which asks the node what it has.
"""

from __future__ import annotations

import asyncio
import math
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from xin.backends import engine_class
from xin.catalog import memory
from xin.catalog.spec import Family, Variant, families
from xin.errors import BadRequest, XinError
from xin.node.bandwidth import BandwidthProbe
from xin.node.plan import Place, lacking_engine
from xin.node.plan_candidates import GGUF, Candidate, absent, local
from xin.node.plan_need import estimated
from xin.node.plan_verdict import Judgement, judge
from xin.node.quantization_choice import USUAL
from xin.protocol.node import Device, LocalModel, Recommendation, Recommendations

MOST = 20
WINDOW = 8192
READABLE = 8.0  # tokens a second: as fast as people read
USABLE = 2.0
# What generating reaches of the bandwidth that a copy does: see docs/models.md for how it was found.
CPU_SHARE = 0.35
GPU_SHARE = 0.6  # not found by us: what is usually told of llama.cpp on GPUs
USUAL_PART = 1 / 8  # of the window that a conversation fills
_YEAR_WORTH = 1.4  # doublings of parameters that a year of progress stands for
_FIRST_YEAR = 2023
_GOOD = frozenset(USUAL[: USUAL.index("Q3_K_L")])  # four bits and more, without whole halves


@dataclass(slots=True)
class Offer:
    """One model on one device."""

    family: Family
    candidate: Candidate
    device: Device
    found: Judgement
    context: int
    tokens_per_second: float | None

    @property
    def score(self) -> float:
        """Doublings of parameters, newer ones counting more, less what it lacks in speed."""
        size = max(self.candidate.size_in_billions or 0.1, 0.1)
        speed = self.tokens_per_second if self.tokens_per_second is not None else READABLE
        lacks = max(0.0, math.log2(READABLE / max(speed, 0.01))) * 2
        return math.log2(size) + _YEAR_WORTH * _age(self.family) - lacks


class Recommender:
    """`known` and `place` are the node's, as they are now."""

    def __init__(
        self,
        place: Callable[[], Awaitable[Place]],
        known: Callable[[], Awaitable[Sequence[LocalModel]]],
        probe: BandwidthProbe,
    ) -> None:
        self._place = place
        self._known = known
        self._probe = probe

    async def recommend(self, count: int = 5, ability: str = "chat") -> Recommendations:
        """The best first. Raises BadRequest naming the field."""
        if not 1 <= count <= MOST:
            raise BadRequest(f"n is {count}", f"from 1 to {MOST}", param="n")
        place, here = await self._place(), await self._known()
        ram = next((device for device in place.devices if device.kind == "cpu"), None)
        bandwidth = await self._probe.of_ram(ram.name, ram.cores or 1) if ram is not None else None
        speeds = {ram.id: bandwidth * CPU_SHARE} if ram is not None and bandwidth else {}
        for device in place.devices:
            if device.kind != "cpu" and (found := await self._probe.of_gpu(device)):
                speeds[device.id] = found * GPU_SHARE

        def best() -> list[Recommendation]:  # it reads the catalogue, and looks for engines
            found = chosen(offers(list(families().values()), here, place.devices, speeds, ability), count)
            lacking = {name: lacking_engine(name) for name in {offer.candidate.engine for offer in found}}
            return [_told(offer, lacking[offer.candidate.engine], place.name) for offer in found]

        return Recommendations(node=place.name, bytes_per_second=bandwidth, models=await asyncio.to_thread(best))


def offers(
    known: Sequence[Family],
    here: Sequence[LocalModel],
    devices: Sequence[Device],
    speeds: Mapping[str, float],
    ability: str,
) -> list[Offer]:
    """For each size of each family that can, the best that fits. `speeds`: bytes of weights a second, by device."""
    engines = {one.engine for family in known for one in family.variants}
    there = {name for name in engines if _is_engine(name)}
    found = []
    for family in known:
        if ability not in family.abilities or not family.released:
            continue
        of_family = [model for model in here if model.model_name.partition(":")[0] == family.name]
        for size in dict.fromkeys(one.size_in_billions for one in family.variants):
            variants = [one for one in family.variants if one.size_in_billions == size and _loadable(one, there)]
            best = _best(family, variants, of_family, devices, speeds)
            if best is not None:
                found.append(best)
    return found


def chosen(found: Sequence[Offer], count: int) -> list[Offer]:
    """Those with the best score, one of a family while others are left; what is too slow to use only if all is."""
    usable = [one for one in found if (one.tokens_per_second or READABLE) >= USABLE] or list(found)
    ranked = sorted(usable, key=lambda one: (-one.score, one.candidate.model_name))
    firsts: dict[str, Offer] = {}
    for one in ranked:
        firsts.setdefault(one.family.name, one)
    rest = [one for one in ranked if one is not firsts[one.family.name]]
    return [*firsts.values(), *rest][:count]


def _best(
    family: Family,
    variants: Sequence[Variant],
    here: Sequence[LocalModel],
    devices: Sequence[Device],
    speeds: Mapping[str, float],
) -> Offer | None:
    """What is here before what must be fetched, accelerators before RAM, four bits and more before less.

    Of these the most bits that are fast enough, else the fewest.
    """
    options = {"context_length": min(family.context_length or WINDOW, WINDOW), "n_parallel": 1}
    best: tuple[tuple[float, ...], Offer] | None = None
    for variant in variants:
        model = next((one for one in here if _same(one, variant)), None)
        candidate = local(model) if model is not None else absent(family, variant)
        need = estimated(candidate, options)
        for device in devices:
            judged = judge(need, device, devices)
            if judged.verdict != "fits" or not need.weights:
                continue
            reads = need.weights * _active(candidate) + need.kv * USUAL_PART
            speed = speeds[device.id] / reads if device.id in speeds else None
            offer = Offer(family, candidate, device, judged, need.window, speed)
            slow = speed is not None and speed < READABLE
            good = variant.quantization.upper() in _GOOD
            bits = -need.weights if slow else need.weights
            rank = (model is not None, device.kind != "cpu", good, not slow, bits)
            if best is None or rank > best[0]:
                best = rank, offer
    return best[1] if best is not None else None


def _same(model: LocalModel, variant: Variant) -> bool:
    mine = (model.model_format, model.model_size_in_billions, model.quantization.lower())
    return mine == (variant.format, variant.size_in_billions, variant.quantization.lower())


def _loadable(variant: Variant, engines: Set[str]) -> bool:
    """By an engine of this xin, installed or not; GGUF only, since PyTorch weights on a CPU are no advice."""
    return variant.format == GGUF and variant.engine in engines and not variant.remote_code


def _is_engine(name: str) -> bool:
    try:
        engine_class(name)
    except XinError:
        return False
    return True


def _active(candidate: Candidate) -> float:
    """The part of the weights that a token reads: of a mixture of experts those that it takes."""
    shape = candidate.shape
    if shape is None or not shape.experts or not shape.experts_used:
        return 1.0
    experts = memory.expert_parameters(shape)
    whole = memory.parameters(shape)
    return (whole - experts * (1 - shape.experts_used / shape.experts)) / whole


def _age(family: Family) -> float:
    year, _, month = family.released.partition("-")
    return int(year) - _FIRST_YEAR + (int(month or 1) - 1) / 12


def merged(own: Recommendations, others: Sequence[Recommendations], count: int) -> Recommendations:
    """The best of several nodes: of each family where it does best, the node that was asked before equals."""
    best: dict[str, Recommendation] = {}
    for found in (own, *others):
        for one in found.models:
            family = one.model_name.partition(":")[0]
            if family not in best or one.score > best[family].score:
                best[family] = one
                if found is not own:
                    one.command = f"{one.command} --node {shlex.quote(one.node)}"
    ranked = sorted(best.values(), key=lambda one: -one.score)
    return Recommendations(node=own.node, bytes_per_second=own.bytes_per_second, models=ranked[:count])


def _told(offer: Offer, lacking: str, node: str) -> Recommendation:
    one = offer.candidate
    return Recommendation(
        model_name=one.model_name,
        node=node,
        score=round(offer.score, 3),
        description=offer.family.description,
        quantization=one.quantization,
        model_format=one.format,
        model_engine=one.engine,
        model_size_in_billions=one.size_in_billions,
        context_length=offer.context,
        weights_bytes=one.weights_bytes(),
        fetch_bytes=0 if one.downloaded else one.weights_bytes(),
        need_bytes=offer.found.need,
        device_id=offer.device.id,
        device_name=offer.device.name,
        tokens_per_second=round(offer.tokens_per_second, 1) if offer.tokens_per_second else None,
        lacking=lacking,
        command=f"xin launch {one.model_name} --context-length {offer.context}",
    )
