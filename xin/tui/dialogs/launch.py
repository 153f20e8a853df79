"""Launch a model: which, in which quantization on which device, with which options; and the equal command."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from xin.errors import XinError
from xin.protocol.command import launch_command
from xin.protocol.node import LaunchRequest, Plan, PlanRow
from xin.tui.dialogs.dialog import Dialog
from xin.tui.glyphs import G
from xin.tui.launch_choice import Grid, merge, recommended, request_for
from xin.tui.launch_models import ModelGroup, groups
from xin.tui.text import bytes_short, clean
from xin.tui.widgets.fit_grid import FitGrid
from xin.tui.widgets.model_picker import ModelPicker
from xin.tui.widgets.option_form import SLIDER, OptionForm, OptionsChanged
from xin.tui.widgets.row_list import RowList
from xin.tui.widgets.titles import set_title

if TYPE_CHECKING:
    from xin.client import AsyncClient

PLAN_DELAY_SECONDS = 0.15
COUNTED_ENGINE = "llama.cpp"
T = TypeVar("T")
QUANTIZATIONS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M", "Q2_K", "F16")
_KEYS = "enter next, launch  tab field  arrows choose  q quantize  esc back"


class LaunchDialog(Dialog[None]):
    """One page, or three steps where it is narrow: model, where, options. Errors stay here; a launch opens its job."""

    CSS_PATH = "launch.tcss"
    HELP = "Type to search. Enter goes on, and launches from the grid or the options. Esc goes back."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "next, launch", id="launch.next", tooltip="Go on; from the grid on: launch"),
        Binding("q", "quantize", "quantize", id="launch.quantize", tooltip="Make another quantization of the model"),
        Binding("i", "install", "install engine", id="launch.install", tooltip="Install the engine that is missing"),
    ]

    def __init__(self, model_name: str = "") -> None:
        super().__init__("Launch a model", keys=_KEYS)
        self._wanted = model_name
        self._engine = ""
        self._launching = False
        self._refused = ""

    # ---- layout

    def body(self) -> ComposeResult:
        with Horizontal(id="launch-body"):
            yield ModelPicker(id="launch-model")
            with Vertical(id="launch-right"):
                with Vertical(id="launch-fit"):
                    yield FitGrid(id="launch-grid")
                    yield Static("", id="launch-reason", markup=False)
                with Vertical(id="launch-options"):
                    yield OptionForm(id="launch-form")
                    yield Static("", id="launch-help", markup=False)
        yield Static("", id="launch-error", markup=False)

    def on_mount(self) -> None:
        set_title(self.query_one("#launch-model"), "1 Model")
        set_title(self.query_one("#launch-fit"), "2 Where")
        set_title(self.query_one("#launch-options"), "3 Options")
        self._step(1)
        self.picker.search_box.value = self._wanted.partition(":")[0]
        self.picker.search_box.focus()
        self._load_models()

    @property
    def grid(self) -> FitGrid:
        return self.query_one(FitGrid)

    @property
    def form(self) -> OptionForm:
        return self.query_one(OptionForm)

    @property
    def picker(self) -> ModelPicker:
        return self.query_one(ModelPicker)

    @property
    def group(self) -> ModelGroup | None:
        return self.picker.group

    @property
    def request(self) -> LaunchRequest | None:
        """What enter would launch."""
        grid = self.grid
        if grid.cell is None:
            return None
        layers = any(spec.name == "n_gpu_layers" for spec in self.form.specs)
        return request_for(grid.grid, grid.row, grid.column, self.form.values, self.form.uid, takes_layers=layers)

    # ---- models

    @work(exclusive=True, group="launch-models", exit_on_error=False)
    async def _load_models(self) -> None:
        nodes = self._askable()
        here = dict(await asyncio.gather(*(self._ask(node_id, lambda c: c.local_models()) for node_id in nodes)))
        jobs = [job for _, job in self.workbench.store.jobs()]
        self.picker.show(groups(here, {}, jobs))
        if not nodes:
            self.fail("no node is talked to, so nothing can be launched")
        known = dict(await asyncio.gather(*(self._ask(node_id, lambda c: c.catalogue()) for node_id in nodes)))
        listed = groups(here, known, jobs)
        self.picker.show(listed)
        if self._wanted and any(self._wanted in {group.title, *group.names} for group in listed):
            self._step(2)

    async def _ask(self, node_id: str, ask: Callable[[AsyncClient], Awaitable[Sequence[T]]]) -> tuple[str, Sequence[T]]:
        """Its answer; nothing from one that does not answer, which is told."""
        try:
            return node_id, await ask(self.workbench.client(node_id))
        except XinError as exc:
            self.workbench.say(clean(exc.message), severity="warning")
            return node_id, []

    def _askable(self) -> list[str]:
        views = self.workbench.store.nodes.values()
        return [view.id for view in views if view.endpoint and view.status != "gone" and view.relation != "found"]

    @on(ModelPicker.Picked)
    def _model_picked(self) -> None:
        self._refused = ""
        set_title(self.query_one("#launch-fit"), "2 Where", "")
        # until the nodes answer, enter must not launch what was there before
        self.grid.say("no model here has these words" if self.picker.misses else "asking the nodes")
        self._tell()
        self._plan(fresh=True)

    @on(RowList.Chosen)
    def _model_chosen(self) -> None:
        self.action_next()

    def action_pick(self, by: int) -> None:
        self.picker.models.action_move(by)

    # ---- what fits

    @work(exclusive=True, group="launch-plan", exit_on_error=False)
    async def _plan(self, *, fresh: bool) -> None:
        """Ask every node that has the model; what one does not answer is told, the others count."""
        group = self.group
        if group is None:
            return
        await asyncio.sleep(PLAN_DELAY_SECONDS)
        answers = await asyncio.gather(*(self._plan_of(node_id, group) for node_id in group.nodes))
        plans = {node_id: plan for node_id, plan in zip(group.nodes, answers, strict=True) if isinstance(plan, Plan)}
        if not plans:
            self.grid.say("; ".join({plan for plan in answers if isinstance(plan, str)}) or "no node answers")
            self._tell()
            return
        grid = merge(plans)
        self.grid.show(grid, self._place(grid) if fresh else None)
        self._draw_cell()

    async def _plan_of(self, node_id: str, group: ModelGroup) -> Plan | str:
        """Its plan, or why there is none."""
        size = {"model_size_in_billions": group.size} if group.catalogued and group.size else {}
        try:
            return await self.workbench.client(node_id).plan(group.name, self._plan_options(), **size)
        except XinError as exc:
            return exc.message

    def _plan_options(self) -> dict[str, Any]:
        """All that llama.cpp's memory depends on; other engines are not counted, but for their context."""
        context = self.form.slider.value
        if self._engine == COUNTED_ENGINE and not self.form.fault:
            return self.form.values
        return {SLIDER: context} if context else {}

    def _place(self, grid: Grid) -> tuple[int, int]:
        """The row that was asked for by name, else what is best."""
        row, column = recommended(grid)
        named = [index for index, one in enumerate(grid.rows) if one.model_name == self._wanted and ":" in self._wanted]
        return (named[0], column) if named else (row, column)

    @on(FitGrid.Chosen)
    def _cell_chosen(self) -> None:
        self._refused = ""
        self._draw_cell()

    def _draw_cell(self) -> None:
        cell = self.grid.cell
        if cell is None:
            return
        row, count = self.grid.grid.rows[self.grid.row], len(self.grid.grid.rows)
        title = f"2 Where   {count} quantization{'' if count == 1 else 's'}"
        set_title(self.query_one("#launch-fit"), title, "an estimate, by formulas" if row.estimate else "")
        self.form.slider.set_longest(cell.max_context)
        if row.model_engine != self._engine:
            self._load_options(self.grid.grid.columns[self.grid.column].node_id, row.model_engine)
        self._tell()

    @work(exclusive=True, group="launch-options", exit_on_error=False)
    async def _load_options(self, node_id: str, engine: str) -> None:
        try:
            specs = await self.workbench.client(node_id).engine_options(engine)
        except XinError as exc:
            self.fail(exc.message)
            return
        self._engine = engine
        await self.form.set_specs(specs)
        set_title(self.query_one("#launch-options"), f"3 Options of {clean(engine)}")
        self._tell()

    @on(OptionsChanged)
    def _options_changed(self) -> None:
        self._refused = ""
        self._tell()
        self._plan(fresh=False)

    # ---- what is told

    def _tell(self) -> None:
        request = self.request
        self.command = self._command(request) if request is not None else ""
        self.query_one("#launch-reason", Static).update(self._reason())
        self._tell_fault()
        self._tell_help()

    def _command(self, request: LaunchRequest) -> str:
        column = self.grid.grid.columns[self.grid.column]
        view = self.workbench.store.node(column.node_id)
        elsewhere = view is not None and view.relation != "self" and view.endpoint
        return launch_command(request) + (f" -e {shlex.quote(str(view.endpoint))}" if elsewhere and view else "")

    def _reason(self) -> Content:
        cell = self.grid.cell
        if cell is None:
            return Content("")
        device = "" if self.has_class("-narrow") else f" ({cell.device_name})"
        where = f"{cell.node}:{cell.device_id}{device}"
        row = self.grid.grid.rows[self.grid.row]
        about = "about " if row.estimate else ""
        words = f"{about}{bytes_short(cell.need_bytes)} of {bytes_short(cell.free_bytes)} free on {where}"
        words += "" if row.downloaded else f"; {fetch_words(row)}"
        word = {"fits": "fits", "partial": "fits in part", "no": "does not fit", "no_engine": "no engine"}[cell.verdict]
        reason = f"; {cell.reason}" if cell.reason else ""
        return Content(clean(f"{word}: {words}{reason}"))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._tell_help()
        for step, part in enumerate(("#launch-model", "#launch-fit", "#launch-options"), 1):
            if self.query_one(part).has_focus_within:
                self._set_step_class(step)

    def _tell_help(self) -> None:
        self.query_one("#launch-help", Static).update(Content(clean(self.form.description_of(self.focused))))

    def fail(self, words: str) -> None:
        """Say what is wrong, in the dialog, until something else is chosen."""
        self._refused = words
        self._tell_fault()

    def _tell_fault(self) -> None:
        words = self.form.fault or self._refused
        error = self.query_one("#launch-error", Static)
        error.update(Content(f"{G.fail} {clean(words)}" if words else ""))
        error.display = bool(words)

    # ---- keys

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.action_next()

    def action_next(self) -> None:
        if self.query_one("#launch-model").has_focus_within:
            if self.group is not None:
                self._step(2)
        else:
            self._launch()

    def action_close(self) -> None:
        """One step back where there are steps, else away."""
        narrow = self.has_class("-narrow")
        for step in (3, 2):
            if narrow and self.has_class(f"-step-{step}"):
                self._step(step - 1)
                return
        self.dismiss(None)

    def _step(self, step: int) -> None:
        self._set_step_class(step)
        targets = {1: "#launch-search", 2: "#launch-grid"}
        widget = self.form.slider if step == 3 else self.query_one(targets[step])
        self.call_after_refresh(widget.focus)

    def _set_step_class(self, step: int) -> None:
        for number in (1, 2, 3):
            self.set_class(number == step, f"-step-{number}")

    @work(exclusive=True, group="launch", exit_on_error=False)
    async def _launch(self) -> None:
        """Begin it on the node of the cell, and show its job; what is wrong stays here."""
        request = self.request
        if request is None or self.form.fault or self._launching or self._is_readonly():
            return
        named = {"model_uid": request.model_uid} if request.model_uid else {}
        await self._begin("launch", model_name=request.model_name, options=request.options, **named)

    def action_quantize(self) -> None:
        """Choose which; it is made on the node under the cursor, and its job is shown."""
        cell = self.grid.cell
        if cell is None or self._is_readonly():
            return
        row = self.grid.grid.rows[self.grid.row]
        here = {one.quantization for one in self.grid.grid.rows}
        choices = [
            (f"{name} of {row.model_name}", partial(self._quantize, row.model_name, name))
            for name in QUANTIZATIONS
            if name not in here
        ]
        self.app.search_commands(choices, placeholder="Make which quantization?")

    @work(exclusive=True, group="launch", exit_on_error=False)
    async def _quantize(self, source: str, quantization: str) -> None:
        await self._begin("quantize", source=source, quantization=quantization)

    @work(exclusive=True, group="launch", exit_on_error=False)
    async def action_install(self) -> None:
        """What the cell's device lacks: the engine, or a build of it for this kind of device."""
        cell = self.grid.cell
        if cell is None or self._is_readonly():
            return
        if cell.verdict != "no_engine":
            self.fail("the engine of this cell is there already")
            return
        words = shlex.split(cell.reason.rpartition(": ")[2])  # xin engines install NAME [--build --cuda]
        wanted = next((word[2:] for word in words if word.startswith("--") and word != "--build"), None)
        name = self.grid.grid.rows[self.grid.row].model_engine
        question = (
            f"Install {name} on {cell.node}? Where no prebuilt wheel is found it is compiled, which takes minutes."
        )
        if await self.workbench.ask(question, command=" ".join(words)):
            build = {"build": True, "accelerator": wanted} if wanted else {}
            await self._begin("install", name=name, **build)

    async def _begin(self, kind: str, **fields: Any) -> None:
        """Start the job on the cell's node and show it; what is wrong is said here."""
        node_id = self.grid.grid.columns[self.grid.column].node_id
        self._launching = True
        try:
            job = await self.workbench.client(node_id).start_job(kind, **fields)
        except XinError as exc:
            self.fail(f"{exc.message}{'. ' + exc.hint if exc.hint else ''}")
        else:
            self.dismiss(None)
            self.workbench.open_job(node_id, job.id)
        finally:
            self._launching = False

    def _is_readonly(self) -> bool:
        if self.workbench.readonly:
            self.fail("this workbench is read-only")
        return self.workbench.readonly


def fetch_words(row: PlanRow) -> str:
    """What a launch does first for what is not on the node."""
    return f"fetches {bytes_short(row.weights_bytes)} first" if row.weights_bytes else "fetches it first"
