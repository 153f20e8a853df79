"""Where a model can be launched: the plans of all nodes in one grid, and the launch that a cell is. Without looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xin.protocol.node import LaunchRequest, Plan, PlanCell, PlanRow

CONTEXT_STEPS = tuple(2**power for power in range(9, 25))
FETCHED = ("Q4_K_M", "Q4_K_S", "MXFP4", "IQ4_XS", "Q4_0", "Q4_1", "Q5_K_M", "Q6_K", "Q8_0")  # the usual one first


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
    """(row, column): the best quantization that fits an accelerator, else RAM; what must be fetched comes last, and of
    that the usual quantization first.
    """
    order = {"fits": 0, "partial": 1, "no": 2, "no_engine": 3}

    def worth(place: tuple[int, int]) -> tuple[bool, int, bool, int, int]:
        cell, row = grid.cell(*place), grid.rows[place[0]]
        if cell is None:
            return True, 9, True, 0, 0
        usual = FETCHED.index(row.quantization) if row.quantization in FETCHED else len(FETCHED)
        rank = 0 if row.downloaded else usual
        return not row.downloaded, order[cell.verdict], cell.device_id == "cpu", rank, -row.weights_bytes

    places = [(row, column) for row in range(len(grid.rows)) for column in range(len(grid.columns))]
    return min(places, key=worth, default=(0, 0))


def contexts(longest: int) -> list[int]:
    """What the slider stops at."""
    steps = [step for step in CONTEXT_STEPS if step <= (longest or CONTEXT_STEPS[-1])]
    return steps if not longest or longest in steps else [*steps, longest]


def request_for(
    grid: Grid, row: int, column: int, options: Mapping[str, Any], uid: str, *, takes_layers: bool
) -> LaunchRequest:
    """The launch that a cell stands for: as many layers on an accelerator as fit; none of them for RAM's cells."""
    chosen = {key: value for key, value in options.items() if value is not None}
    place = grid.columns[column]
    beside = zip(grid.columns, grid.cells[row], strict=True)
    usable = [one for one, cell in beside if one.node_id == place.node_id and cell and cell.verdict != "no_engine"]
    if place.device_id == "cpu" and takes_layers and any(one.device_id != "cpu" for one in usable):
        chosen.setdefault("n_gpu_layers", 0)
    cell = grid.cells[row][column]
    layers = cell.n_gpu_layers if cell is not None and takes_layers and cell.verdict == "partial" else None
    if layers is not None and layers < grid.rows[row].layers:
        chosen.setdefault("n_gpu_layers", layers)
    return LaunchRequest(model_name=grid.rows[row].model_name, model_uid=uid or None, options=chosen)
