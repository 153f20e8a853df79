"""What can be launched and where: models of all nodes in groups, their plans in one grid. Without any looks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xin.protocol.node import Job, LaunchRequest, LocalModel, Plan, PlanCell, PlanRow

CONTEXT_STEPS = tuple(2**power for power in range(9, 25))


@dataclass(slots=True)
class ModelGroup:
    """One model in all its quantizations. `nodes`: the ids of those that have it; `name` is what a plan is asked for.

    `age`: how many launches ago it was launched last; None = not of late.
    """

    name: str
    title: str
    models: list[LocalModel] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    age: int | None = None

    @property
    def first(self) -> LocalModel:
        return self.models[0]

    @property
    def words(self) -> str:
        """What a search looks in."""
        first = self.first
        parts = [self.title, first.description, first.model_format, *first.model_ability, *first.model_lang]
        return " ".join([*parts, *(model.quantization for model in self.models)]).lower()


@dataclass(frozen=True, slots=True)
class Column:
    """A device of a node."""

    node_id: str
    node: str
    device_id: str
    device_name: str
    free_bytes: int


@dataclass(slots=True)
class Grid:
    """Plans of several nodes as one: `cells` by row and column, None where a node does not have the model."""

    columns: list[Column] = field(default_factory=list)
    rows: list[PlanRow] = field(default_factory=list)
    cells: list[list[PlanCell | None]] = field(default_factory=list)

    def cell(self, row: int, column: int) -> PlanCell | None:
        return self.cells[row][column] if 0 <= row < len(self.rows) and 0 <= column < len(self.columns) else None


def groups(models: Mapping[str, Sequence[LocalModel]], jobs: Sequence[Job]) -> list[ModelGroup]:
    """Models by node id in groups: those launched of late first, then by name. `jobs`: newest first."""
    found: dict[str, ModelGroup] = {}
    for node_id, listed in models.items():
        for model in listed:
            title = _title(model)
            group = found.setdefault(title, ModelGroup(model.model_name, title))
            if all(known.quantization != model.quantization for known in group.models):
                group.models.append(model)
            if node_id not in group.nodes:
                group.nodes.append(node_id)
    launched = [name for job in jobs if (name := _launched(job))]
    ages = {name: age for age, name in reversed(list(enumerate(launched)))}
    for group in found.values():
        names = {group.title, *(model.model_name for model in group.models)}
        group.age = min((ages[name] for name in names if name in ages), default=None)
    return sorted(found.values(), key=lambda one: (one.age is None, one.age or 0, one.title.lower()))


def search(listed: Sequence[ModelGroup], text: str) -> list[ModelGroup]:
    """Those with all words; where the name begins with the text, first."""
    words = text.lower().split()
    fitting = [group for group in listed if all(word in group.words for word in words)]
    return sorted(fitting, key=lambda group: not group.title.lower().startswith(text.lower().strip()))


def merge(plans: Mapping[str, Plan]) -> Grid:
    """By node id. Rows of equal format, engine and quantization are one; the largest weights come first, and last those
    that no node has an engine for.
    """
    grid = Grid()
    keys: list[tuple[str, str, str]] = []
    by_key: dict[tuple[str, str, str], dict[tuple[str, str], PlanCell]] = {}
    rows: dict[tuple[str, str, str], PlanRow] = {}
    for node_id, plan in plans.items():
        for row in plan.rows:
            key = (row.model_format, row.model_engine, row.quantization)
            rows.setdefault(key, row)
            cells = by_key.setdefault(key, {})
            for cell in row.cells:
                cells[node_id, cell.device_id] = cell
                column = Column(node_id, cell.node, cell.device_id, cell.device_name, cell.free_bytes)
                if all((one.node_id, one.device_id) != (node_id, cell.device_id) for one in grid.columns):
                    grid.columns.append(column)
    useless = {key for key, cells in by_key.items() if all(cell.verdict == "no_engine" for cell in cells.values())}
    keys = sorted(rows, key=lambda key: (key in useless, -rows[key].weights_bytes))
    grid.rows = [rows[key] for key in keys]
    grid.cells = [[by_key[key].get((one.node_id, one.device_id)) for one in grid.columns] for key in keys]
    return grid


def recommended(grid: Grid) -> tuple[int, int]:
    """(row, column): the best quantization that fits an accelerator, else RAM; what is not here yet comes last."""
    order = {"fits": 0, "partial": 1, "no": 2, "no_engine": 3}

    def worth(place: tuple[int, int]) -> tuple[bool, int, bool, int]:
        cell, row = grid.cell(*place), grid.rows[place[0]]
        if cell is None:
            return True, 9, True, 0
        return not row.downloaded, order[cell.verdict], cell.device_id == "cpu", -row.weights_bytes

    places = [(row, column) for row in range(len(grid.rows)) for column in range(len(grid.columns))]
    return min(places, key=worth, default=(0, 0))


def contexts(longest: int) -> list[int]:
    """What the slider stops at."""
    steps = [step for step in CONTEXT_STEPS if step <= (longest or CONTEXT_STEPS[-1])]
    return steps if not longest or longest in steps else [*steps, longest]


def request_for(
    grid: Grid, row: int, column: int, options: Mapping[str, Any], uid: str, *, takes_layers: bool
) -> LaunchRequest:
    """The launch that a cell stands for. In RAM, where the node has accelerators, no layer goes to them."""
    chosen = {key: value for key, value in options.items() if value is not None}
    place = grid.columns[column]
    beside = zip(grid.columns, grid.cells[row], strict=True)
    usable = [one for one, cell in beside if one.node_id == place.node_id and cell and cell.verdict != "no_engine"]
    if place.device_id == "cpu" and takes_layers and any(one.device_id != "cpu" for one in usable):
        chosen.setdefault("n_gpu_layers", 0)
    return LaunchRequest(model_name=grid.rows[row].model_name, model_uid=uid or None, options=chosen)


def _launched(job: Job) -> str:
    words = shlex.split(job.command) if job.kind == "launch" else []
    return words[2] if len(words) > 2 else ""


def _title(model: LocalModel) -> str:
    """The name without its quantization."""
    if model.source == "file":
        return model.model_name.removesuffix(f".{model.quantization}").removesuffix(f"-{model.quantization}")
    return model.model_name.partition(":")[0]
