"""The launch dialog on a real node: search, grid, slider, options from the schema, errors, the equal command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from job_places import type_in, workbench
from live_node import LiveNode
from waiting import came as until
from waiting import screen

from xin.client import Client
from xin.protocol.node import CatalogueEntry, CatalogueModel, Job, LocalModel, Plan, PlanCell, PlanRow
from xin.tui.dialogs.launch import LaunchDialog
from xin.tui.launch_choice import contexts, merge, recommended, request_for
from xin.tui.launch_models import groups, search
from xin.tui.widgets.fit_grid import cell_words


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    with LiveNode(tmp_path_factory.mktemp("launch") / "node", name="hera") as node:
        yield node


@pytest.fixture
def client(node: LiveNode) -> Iterator[Client]:
    with Client(node.url) as client:
        yield client
        for instance in client.instances():
            client.terminate(instance.model_uid)


async def opened(app, pilot, words: str = "", model: str = "") -> LaunchDialog:
    app.open_launch(model)
    await until(pilot, lambda: isinstance(app.screen, LaunchDialog) and app.screen.query("#launch-form Input"))
    await until(pilot, lambda: app.screen.picker.models.lines)
    await type_in(pilot, words)
    await until(pilot, lambda: app.screen.group is not None and words in app.screen.group.title)
    await until(pilot, lambda: app.screen.grid.cell is not None and app.screen.form.specs)
    return app.screen


async def test_enter_launches_nothing_before_the_nodes_have_said_what_fits(node, client, monkeypatch):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "echo")
        monkeypatch.setattr("xin.tui.dialogs.launch.PLAN_DELAY_SECONDS", 3.0)
        await pilot.press("backspace", "backspace", "backspace", "backspace")
        await type_in(pilot, "smol")
        assert dialog.group.title == "smollm2" and dialog.command == ""
        await pilot.press("enter", "enter")
        assert client.instances() == []


async def test_three_keys_launch_a_model_and_show_its_job(node, client):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "echo")
        assert dialog.command == "xin launch echo" and "estimate" not in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "jobs" and "✓ ready" in screen(app))
        assert [instance.model_uid for instance in client.instances()] == ["echo"]


async def test_the_grid_the_slider_and_the_options_make_the_command(node, client):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "smol")
        cell = dialog.grid.cell
        assert cell.verdict == "fits" and cell.max_context == 8192 and "Q4_1" in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus)
        await pilot.press("tab")
        assert dialog.form.slider.has_focus and "tokens" in screen(app)
        await pilot.press("left", "left")
        assert dialog.form.slider.value == 4096 and dialog.command == "xin launch smollm2 --context-length=4096"
        await until(pilot, lambda: dialog.grid.grid.rows[dialog.grid.row].context_length == 4096)
        await pilot.press("tab")
        await type_in(pilot, "mine")
        await pilot.press("tab")
        await type_in(pilot, "4")
        assert dialog.command == "xin launch smollm2 --model-uid mine --context-length=4096 --n-parallel=4"
        assert "requests that decode at the same time" in screen(app)
        await pilot.press("backspace", "9", "9", "9")
        await until(pilot, lambda: "999 is out of range: 1 to 128" in screen(app))
        await pilot.press("enter")
        assert client.instances() == [] and app.screen is dialog


async def test_what_the_node_refuses_is_said_in_the_dialog(node, client):
    client.launch_model("echo", model_uid="taken", context_length=100)
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "echo")
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus)
        await pilot.press("tab", "tab")
        await type_in(pilot, "taken")
        await pilot.press("enter")
        await until(pilot, lambda: "the uid taken is taken" in screen(app))
        assert app.screen is dialog and "choose another uid" in screen(app)


async def test_y_copies_the_command_and_letters_in_fields_are_text(node):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "echo")
        await pilot.press("y")
        await until(pilot, lambda: "no model here has these words" in screen(app))
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: dialog.grid.has_focus and dialog.command)
        await pilot.press("y")
        assert app.clipboard == "xin launch echo"


async def test_a_narrow_terminal_goes_through_steps_and_back(node):
    async with workbench(node, "bench", (80, 24)) as (app, pilot):
        dialog = await opened(app, pilot, "smol")
        assert not dialog.query_one("#launch-right").display and "1 Model" in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus and "2 Where" in screen(app) and "QUANT" in screen(app))
        assert "xin launch smollm2" in screen(app)
        await pilot.press("escape")
        await until(pilot, lambda: "1 Model" in screen(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not dialog)


async def test_opened_with_a_name_it_stands_at_the_grid(node):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, model="smollm2")
        await until(pilot, lambda: dialog.grid.has_focus)
        assert dialog.command == "xin launch smollm2"


async def test_q_makes_a_quantization_which_is_a_row_afterwards(node, client):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "smol")
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus)
        await pilot.press("q")
        await until(pilot, lambda: "Q4_K_M of smollm2" in screen(app))
        await type_in(pilot, "Q4_0")
        await until(pilot, lambda: "Q6_K of" not in screen(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "jobs" and "✓ store" in screen(app), 40)
        dialog = await opened(app, pilot, "smol")
        made = [row.quantization for row in dialog.grid.grid.rows if row.model_format == "gguf"]
        assert made == ["Q4_1", "Q4_0"]
        await pilot.press("enter", "down")
        await until(pilot, lambda: dialog.command == "xin launch smollm2:Q4_0")


async def test_i_installs_only_what_is_missing_and_asks_first(node):
    async with workbench(node, "bench") as (app, pilot):
        dialog = await opened(app, pilot, "echo")
        await pilot.press("enter")
        await until(pilot, lambda: dialog.grid.has_focus)
        await pilot.press("i")
        await until(pilot, lambda: "is there already" in screen(app))
        dialog.grid.cell.verdict, dialog.grid.cell.reason = (
            "no_engine",
            "it lacks: xin engines install echo --build --cuda",
        )
        await pilot.press("i")
        await until(pilot, lambda: "Install echo on hera?" in screen(app) and "--build --cuda" in screen(app))
        await pilot.press("enter")
        await until(pilot, lambda: "cannot install an engine named 'echo'" in screen(app))


async def test_without_any_node_it_says_so(tmp_path):
    from xin.tui.app import Workbench
    from xin.tui.settings import TuiSettings

    app = Workbench(None, connect=False, settings=TuiSettings())
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_launch()
        await until(pilot, lambda: isinstance(app.screen, LaunchDialog) and "no node is talked to" in screen(app))


# ---- the logic


def model(name: str, quantization: str = "Q4_0", source: str = "file") -> LocalModel:
    return LocalModel(
        model_name=name, model_engine="llama.cpp", model_format="gguf", quantization=quantization, source=source
    )


def cell(device: str, verdict: str, free: int = 10, need: int = 5, context: int = 0) -> PlanCell:
    return PlanCell(
        node="n",
        device_id=device,
        device_name=device,
        free_bytes=free,
        need_bytes=need,
        verdict=verdict,  # type: ignore[arg-type]
        max_context=context,
    )


def row(quantization: str, weights: int, *cells: PlanCell) -> PlanRow:
    return PlanRow(
        model_name=f"m:{quantization}",
        quantization=quantization,
        model_format="gguf",
        model_engine="llama.cpp",
        weights_bytes=weights,
        downloaded=True,
        cells=list(cells),
    )


def test_models_are_grouped_and_recent_ones_come_first():
    listed = {
        "a": [model("Zeta.Q4_0"), model("Zeta.Q8_0", "Q8_0"), model("smollm2:Q8_0", "Q8_0", "made here")],
        "b": [model("smollm2", "Q4_1", "bundled"), model("org/repo:x.gguf", "Q4_0", "huggingface")],
    }
    job = Job(id="1", kind="launch", title="t", state="done", command="xin launch Zeta.Q8_0 --context-length=5")
    found = groups(listed, {}, [job])
    assert [group.title for group in found] == ["Zeta", "org/repo", "smollm2"]
    assert len(found[0].here) == 2 and found[0].age == 0 and found[1].age is None
    assert found[2].nodes == ["a", "b"]
    assert [group.title for group in search(found, "smol q8")] == ["smollm2"] and not search(found, "nix")


def entry(size: float, *quantizations: str) -> CatalogueEntry:
    return CatalogueEntry(
        model_format="gguf", model_engine="llama.cpp", model_size_in_billions=size, quantizations=list(quantizations)
    )


def test_the_catalogue_stands_behind_what_is_here_a_line_for_each_size():
    here = model("smollm2", "Q4_1", "bundled")
    here.model_size_in_billions = 0.135
    smol = CatalogueModel(
        model_name="smollm2",
        model_ability=["chat"],
        entries=[entry(1.7, "Q8_0"), entry(0.135, "Q4_1", "Q8_0"), entry(1.7, "Q4_K_M")],
    )
    apple = CatalogueModel(model_name="apple", model_ability=["vision"], model_lang=["eo"], entries=[entry(7, "Q8_0")])
    found_there = CatalogueModel(model_name="lonely", origin="found", entries=[entry(1, "F16")])
    listed = groups({"a": [here]}, {"a": [apple, smol, found_there], "b": [smol]}, [])
    assert [(one.title, one.billions, bool(one.here)) for one in listed] == [
        ("smollm2", "135M", True),
        ("apple", "7B", False),
        ("smollm2", "1.7B", False),
    ]
    assert listed[2].quantizations == ["Q8_0", "Q4_K_M"] and listed[2].nodes == ["a", "b"]
    assert listed[0].name == "smollm2" and len({one.key for one in listed}) == 3
    assert [one.title for one in search(listed, "vision")] == ["apple"] == [one.title for one in search(listed, "EO")]
    assert [one.billions for one in search(listed, "smol 1.7b")] == ["1.7B"]


def test_what_must_be_fetched_is_taken_in_the_usual_quantization():
    rows = [row(name, size, cell("cpu", "fits")) for name, size in (("Q8_0", 8), ("Q4_K_M", 4), ("Q2_K", 2))]
    for one in rows:
        one.downloaded = False
    grid = merge({"a": Plan(model_name="m", rows=rows)})
    assert grid.rows[recommended(grid)[0]].quantization == "Q4_K_M"
    rows[2].downloaded = True
    assert grid.rows[recommended(grid)[0]].quantization == "Q2_K"


def test_a_cell_that_fits_in_part_takes_as_many_layers_as_fit():
    one = row("Q8_0", 8, cell("cuda:0", "partial"), cell("cpu", "fits"))
    one.layers, one.cells[0].n_gpu_layers = 33, 20
    grid = merge({"a": Plan(model_name="m", rows=[one])})
    assert request_for(grid, 0, 0, {}, "", takes_layers=True).options == {"n_gpu_layers": 20}
    assert request_for(grid, 0, 0, {"n_gpu_layers": 5}, "", takes_layers=True).options == {"n_gpu_layers": 5}
    assert request_for(grid, 0, 0, {}, "", takes_layers=False).options == {}


def test_plans_of_several_nodes_are_one_grid_and_the_best_cell_is_chosen():
    big = row("Q8_0", 8, cell("cuda:0", "no"), cell("cpu", "fits"))
    useless = row("none", 16, cell("cuda:0", "no_engine"), cell("cpu", "no_engine"))
    small = row("Q4_0", 4, cell("cuda:0", "fits"), cell("cpu", "fits"))
    other = row("Q4_0", 4, cell("cpu", "fits"))
    grid = merge({"a": Plan(model_name="m", rows=[useless, small, big]), "b": Plan(model_name="m", rows=[other])})
    assert [one.quantization for one in grid.rows] == ["Q8_0", "Q4_0", "none"]
    assert [(one.node_id, one.device_id) for one in grid.columns] == [("a", "cuda:0"), ("a", "cpu"), ("b", "cpu")]
    assert grid.cell(0, 2) is None
    assert recommended(grid) == (1, 0)
    in_ram = request_for(grid, 0, 1, {"n_parallel": None}, "", takes_layers=True)
    assert in_ram.model_name == "m:Q8_0" and in_ram.options == {"n_gpu_layers": 0}
    assert request_for(grid, 1, 2, {}, "u", takes_layers=True).options == {}


def test_cells_say_in_words_what_fits():
    assert cell_words(cell("cpu", "fits", context=8192)) == "✓ 8k ctx"
    assert cell_words(cell("cpu", "partial", context=6000)) == "~ 5k ctx"
    assert cell_words(cell("cpu", "no", free=2**30, need=3 * 2**30)) == "✗ -2.0G"
    assert cell_words(cell("cpu", "no_engine")) == "n/a" and cell_words(None) == "not there"


def test_the_slider_stops_at_what_fits():
    assert contexts(8192)[-1] == 8192 and contexts(6000)[-2:] == [4096, 6000] and contexts(0)[0] == 512
