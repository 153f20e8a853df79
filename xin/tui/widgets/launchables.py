"""The Bench when nothing runs: what this machine is, and what it can run at one key."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from xin.protocol.node import Device, LocalModel, Recommendation
from xin.tui.glyphs import G
from xin.tui.store import NodeView
from xin.tui.text import bytes_short, clean, fit
from xin.tui.widgets.node_list import accelerators
from xin.tui.widgets.row_list import Row, RowList

OVERHEAD = 1.15  # of the file's size: what a model takes beside its weights, roughly
_RANK = {"fits": 0, "tight": 1, "short": 2, "no engine": 3}


class Launchables(Vertical):
    """`show` what a node can launch now, and what it would run well; `chosen` is the one under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._models: dict[str, LocalModel] = {}
        self._drawn = Content("")

    def compose(self) -> ComposeResult:
        yield Static("", id="launchables-head", markup=False)
        yield RowList(id="launchables-list")

    @property
    def list(self) -> RowList:
        return self.query_one("#launchables-list", RowList)

    @property
    def text(self) -> str:
        return self._drawn.plain

    @property
    def chosen(self) -> LocalModel | None:
        return self._models.get(self.list.key)

    def show(
        self,
        view: NodeView,
        models: Sequence[LocalModel] | None,
        recommended: Sequence[Recommendation] = (),
        *,
        readonly: bool = False,
    ) -> None:
        """`models` None: not known yet. Of what is recommended those that must be fetched, before the echo engine."""
        width = self.list.room
        here = [
            (model, _line(model, verdict, view, width), not model.weights)
            for model, verdict in ranked_models(models or (), view)
        ]
        fetched = [(as_model(one), _advice(one, width), False) for one in recommended if one.fetch_bytes]
        offered = sorted([*here, *fetched], key=lambda one: one[2])
        self._models = {_key(model): model for model, _, _ in offered}
        self._head(machine_text(view, models, readonly, fetches=bool(fetched)))
        self.list.set_rows([Row(_key(model), line) for model, line, _ in offered])

    def say(self, lines: Sequence[str]) -> None:
        """Words instead of models."""
        self._models = {}
        self.list.set_rows([])
        self._head(Content("\n".join(lines)))

    def _head(self, content: Content) -> None:
        if not content.is_same(self._drawn):
            self._drawn = content
            self.query_one("#launchables-head", Static).update(content)


def ranked_models(models: Sequence[LocalModel], view: NodeView) -> list[tuple[LocalModel, str]]:
    """With a verdict each: what fits first, the largest of it at the top, the echo engine last."""
    judged = [(model, verdict_of(model, view)) for model in models]
    return sorted(judged, key=lambda one: (_RANK[one[1]], not one[0].weights, -one[0].size_bytes, one[0].model_name))


def as_model(one: Recommendation) -> LocalModel:
    """What its launch names."""
    return LocalModel(
        model_name=one.model_name,
        model_engine=one.model_engine,
        model_format=one.model_format,
        quantization=one.quantization,
        model_size_in_billions=one.model_size_in_billions,
        description=one.description,
        size_bytes=one.fetch_bytes,
    )


def verdict_of(model: LocalModel, view: NodeView) -> str:
    """fits, tight (in RAM or GPU memory that others use now), short, no engine."""
    engines = {engine.name: engine for engine in view.info.engines} if view.info is not None else {}
    engine = engines.get(model.model_engine)
    if engine is not None and not engine.installed:
        return "no engine"
    need = needed_bytes(model)
    if need <= max((device.free_bytes or 0 for device in view.devices), default=0):
        return "fits"
    return "tight" if need <= max((device.total_bytes for device in view.devices), default=0) else "short"


def needed_bytes(model: LocalModel) -> int:
    return int(model.size_bytes * OVERHEAD)


def roomiest(devices: Sequence[Device]) -> Device | None:
    return max(devices, key=lambda device: device.free_bytes or 0, default=None)


def machine_text(
    view: NodeView, models: Sequence[LocalModel] | None, readonly: bool, *, fetches: bool = False
) -> Content:
    name = clean(view.name or view.id[:8])
    memory = []
    for device in view.devices:
        kind = "RAM" if device.kind == "cpu" else clean(device.name)
        free = f"{bytes_short(device.free_bytes)} free of " if device.free_bytes is not None else ""
        memory.append(f"{kind} {free}{bytes_short(device.total_bytes)}")
    cpu = next((device for device in view.devices if device.kind == "cpu"), None)
    cores = f", {cpu.cores:g} cores" if cpu is not None and cpu.cores else ""
    has = f"{accelerators(view)}{cores}   {'   '.join(memory)}"
    if models is None:
        next_step = f"looking what it can run {G.ellipsis}"
    elif not models:
        next_step = "It has no model yet.  l chooses one to fetch and launch"
    elif readonly:
        next_step = "It can run these now, but this workbench is read-only."
    elif fetches:
        next_step = f"It can run these now, and would run well what is to fetch:   {G.enter} launch   l more"
    else:
        next_step = f"It can run these now, nothing to fetch:   {G.enter} launch   l more"
    return Content.assemble(
        ("Nothing is running.\n", "bold"), (f"{name}: ", "bold"), f"{has}\n", (next_step, "$foreground-muted")
    )


def _line(model: LocalModel, verdict: str, view: NodeView, width: int) -> Content:
    name_cells = min(max(width - 46, 14), 34)
    size = bytes_short(model.size_bytes) if model.size_bytes else G.none
    text, style = _words(model, verdict, view)
    head = f"{fit(clean(model.model_name), name_cells)} {fit(_quantization(model), 8)} {size:>6}  "
    rest = max(width - len(head), 0)
    return Content.assemble(
        (fit(clean(model.model_name), name_cells), "bold"),
        (f" {fit(_quantization(model), 8)}", "$foreground-muted"),
        f" {size:>6}  ",
        (fit(text, min(rest, 34)), style),
        (fit(clean(model.description), max(rest - 34, 0)), "$foreground-muted"),
    )


def _advice(one: Recommendation, width: int) -> Content:
    name_cells = min(max(width - 46, 14), 34)
    speed = f", ~{one.tokens_per_second:.0f} tok/s" if one.tokens_per_second else ""
    text = f"{G.down} to fetch{speed}"
    head = f"{fit(clean(one.model_name), name_cells)} {fit(clean(one.quantization), 8)} "
    size = f" {bytes_short(one.fetch_bytes):>6}  "
    rest = max(width - len(head) - len(size), 0)
    return Content.assemble(
        (fit(clean(one.model_name), name_cells), "bold"),
        (f" {fit(clean(one.quantization), 8)}", "$foreground-muted"),
        size,
        (fit(text, min(rest, 34)), "$accent"),
        (fit(clean(one.description), max(rest - 34, 0)), "$foreground-muted"),
    )


def _words(model: LocalModel, verdict: str, view: NodeView) -> tuple[str, str]:
    if verdict == "no engine":
        return f"{G.fail} xin engines install {clean(model.model_engine)}", "$foreground-muted"
    if not model.weights:
        return f"{G.ready} no weights: says your words back", "$foreground-muted"
    device = roomiest(view.devices)
    free = (device.free_bytes or 0) if device is not None else 0
    if verdict == "fits":
        where = "RAM" if device is None or device.kind == "cpu" else clean(device.name)
        return f"{G.ready} fits in {where}", "$success"
    short = bytes_short(max(needed_bytes(model) - free, 0))
    if verdict == "tight":
        return f"{G.slow} short by about {short} now", "$warning"
    return f"{G.fail} too large by about {short}", "$error"


def _quantization(model: LocalModel) -> str:
    return "" if model.quantization == "none" else clean(model.quantization)


def _key(model: LocalModel) -> str:
    return "\t".join((model.model_name, model.model_engine, model.model_format, model.quantization))
