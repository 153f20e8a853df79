"""`xin list --all` with its filters, and `xin show` of families, against a real node; filters on made-up models."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from node_process import NodeProcess

from xin.catalog.spec import built_in_families
from xin.cli.catalogue import OVERHEAD_BYTES, WINDOW, Wanted, best_fit, roomiest, row, sizes_of
from xin.cli.entry import listing_settings
from xin.cli.plain_table import plain_table
from xin.errors import UsageError
from xin.protocol.node import CatalogueEntry, CatalogueModel, Device

GIB = 2**30


def model(name: str, *entries: CatalogueEntry, **fields: object) -> CatalogueModel:
    return CatalogueModel(model_name=name, entries=list(entries), **fields)  # type: ignore[arg-type]


def entry(size: float, weights: dict[str, int], here: tuple[str, ...] = (), kv_bytes: int = 0) -> CatalogueEntry:
    return CatalogueEntry(
        model_format="gguf",
        model_engine="llama.cpp",
        model_size_in_billions=size,
        quantizations=list(weights),
        weights_bytes=weights,
        here=list(here),
        kv_bytes=kv_bytes,
    )


SMALL = entry(1, {"Q4_0": GIB // 2, "Q8_0": GIB}, here=("Q8_0",))
LARGE = entry(70, {"Q4_0": 40 * GIB, "Q8_0": 75 * GIB})
CHAT = model("chatty", SMALL, LARGE, model_ability=["chat"], model_lang=["en", "zh"])
EMBED = model("vectors", entry(0.1, {"F16": 0}), model_ability=["embed"], model_lang=["multilingual", "en"])
ECHO = model(
    "echo", CatalogueEntry(model_format="echo", model_engine="echo", quantizations=["none"], source="built-in")
)


def names(wanted: Wanted) -> list[str]:
    return [one.model_name for one in wanted.of([CHAT, EMBED, ECHO])]


def test_filters_by_words():
    assert names(Wanted()) == ["chatty", "vectors", "echo"]
    assert names(Wanted(ability="Chat")) == ["chatty"]
    assert names(Wanted(language="zh")) == ["chatty", "vectors"]  # the one knows many languages
    assert names(Wanted(language="fr")) == ["vectors"]
    assert names(Wanted(ability="fly")) == []


def test_filters_by_size_and_disk_keep_what_passes_only():
    (kept,) = Wanted(sizes=sizes_of("50-80")).of([CHAT, EMBED, ECHO])
    assert [one.model_size_in_billions for one in kept.entries] == [70]
    (kept,) = Wanted(downloaded=True).of([CHAT, EMBED, ECHO])
    assert [(one.model_size_in_billions, one.quantizations) for one in kept.entries] == [(1, ["Q8_0"])]
    assert len(CHAT.entries) == 2  # what it was given stays


def test_fits_counts_weights_a_window_and_the_engine():
    need = GIB // 2 + OVERHEAD_BYTES
    assert names(Wanted(fits=need)) == ["chatty", "echo"]  # bytes that nobody knows do not fit; echo takes none
    assert names(Wanted(fits=need - 1)) == ["echo"]
    wide = model("wide", entry(1, {"Q4_0": GIB // 2}, kv_bytes=1))
    assert not Wanted(fits=need + WINDOW - 1).of([wide])
    assert Wanted(fits=need + WINDOW).of([wide])
    (kept, _) = Wanted(fits=50 * GIB).of([CHAT, ECHO])
    assert best_fit(kept) == "70B Q4_0 40.0 GiB"


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [("7", (7.0, 7.6), (8.0, 6.0)), ("7B", (7.0,), (70.0,)), ("135M", (0.135,), (0.36,)), ("3-8", (3.0, 8.0), (2.0,))],
)
def test_sizes(text: str, inside: tuple[float, ...], outside: tuple[float, ...]):
    least, most = sizes_of(text)
    assert all(least <= size <= most for size in inside)
    assert not any(least <= size <= most for size in outside)


@pytest.mark.parametrize("text", ["big", "7-", "-", "", "3-x"])
def test_a_size_that_is_none(text: str):
    with pytest.raises(UsageError, match="--size"):
        sizes_of(text)


def test_the_roomiest_device_is_not_one_that_is_cut_into_others():
    whole = Device(id="g", kind="cuda", name="GPU", total_bytes=80, free_bytes=80)
    part = Device(id="m", kind="cuda", name="part", total_bytes=20, free_bytes=10, parent="g")
    ram = Device(id="cpu", kind="cpu", name="RAM", total_bytes=16)
    assert roomiest([whole, part, ram]) == 16
    assert roomiest([]) == 0


def test_a_row():
    many = model("m", *(entry(size, {"Q4_0": 1}) for size in (1, 3, 7, 14)), model_lang=["en", "zh", "fr", "de"])
    assert row(many) == ("m", "1B … 14B", "en, zh, fr +1", "-", "-", "-")
    assert row(CHAT)[1] == "1B, 70B" and row(CHAT)[-1] == "Q8_0"
    assert row(EMBED)[2] == "en +many"


def test_a_plain_table_folds_all_but_its_first_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("xin.cli.plain_table.PIPE_WIDTH", 24)
    plain_table(
        ("NAME", "N", "WORDS"), [("a-long-name", 1, "one two three"), ("你好", 20, "\x1b[31mred")], right=("N",)
    )
    assert capsys.readouterr().out.splitlines() == [
        "NAME          N  WORDS",
        "a-long-name   1  one two",
        "                 three",
        "你好         20  [31mred",
    ]


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("list", {}),
        ("list -a --json", {"everything": True, "json": True}),
        ("list --size 3-8 --lang=zh --fits", {"size": "3-8", "language": "zh", "fits": True}),
        ("list --ability", None),
        ("list --help", None),
        ("list all", None),
        ("tui", None),
    ],
)
def test_a_plain_list_is_taken_at_once(line: str, settings: dict[str, object] | None):
    assert listing_settings(line.split()) == settings


def test_a_plain_list_loads_neither_typer_nor_rich(node: NodeProcess):
    code = (
        "import sys, atexit; sys.argv = ['xin', 'list', '--all']\n"
        "unwanted = {'typer', 'rich', 'pydantic', 'aiohttp'}\n"
        "atexit.register(lambda: print('LOADED', sorted(unwanted & set(sys.modules))))\n"
        "from xin.cli.entry import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=node.environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("LOADED []\n")
    listed = [line.split()[0] for line in done.stdout.splitlines()[1:-1]]
    assert set(built_in_families()) <= set(listed)


def test_filters_on_a_node(node: NodeProcess):
    told = json.loads(node.xin("list", "--ability", "rerank", "--json").stdout)
    assert {"bge-reranker", "bge-reranker-v2-m3", "qwen3-reranker"} == {one["model_name"] for one in told}
    here = json.loads(node.xin("list", "--downloaded", "--size", "135M", "--json").stdout)
    assert [(one["model_name"], one["entries"][0]["here"]) for one in here] == [("smollm2", ["Q4_1"])]
    fitting = node.xin("list", "--fits", "--size", "135M").stdout
    assert "BEST THAT FITS" in fitting and "smollm2" in fitting
    assert node.xin("list", "--lang", "tlh", "--ability", "rerank", "--size", "900").stderr.startswith("xin: no model")
    wrong = node.xin("list", "--size", "big")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_show_tells_a_family(node: NodeProcess):
    shown = node.xin("show", "llama-2-chat", COLUMNS="200").stdout
    for words in (
        "prompt style    LLAMA2; stop tokens 2",
        "cannot read the ggmlv3 files",
        "TheBloke/Llama-2-7B-Chat-GGUF",
        "transformers",
        "Q4_K_M",
        "70B",
    ):
        assert words in shown
    orca = json.loads(node.xin("show", "orca", "--json").stdout)["catalogue"]
    assert [one["repo"] for one in orca["entries"]] == [f"psmathur/orca_mini_{size}b" for size in (3, 7, 13)]
    assert all(one["unverified"] for one in orca["entries"])
    assert orca["entries"][0]["weights_bytes"]["none"] == pytest.approx(2 * 3.426e9, rel=0.01)
    small = node.xin("show", "smollm2").stdout
    assert "Q4_1*" in small and "(unverified)" in small and "94 MiB" in small
    assert "did you mean llama-2" in node.xin("show", "lama-2").stderr
