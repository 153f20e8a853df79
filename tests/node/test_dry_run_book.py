"""What was counted once is known after a restart, and only while the file is the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from xin.node import dry_run_book
from xin.node.dry_run_book import DryRunBook
from xin.node.dry_runs import DryRuns


@pytest.fixture
def model(smollm2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(smollm2, tmp_path / "model.gguf"))


async def test_a_second_node_does_not_count_again(model: Path, tmp_path: Path):
    book = tmp_path / "book.json"
    first = DryRuns(DryRunBook(book))
    size = await first.sizes(str(model), [{"context_length": 1024}])
    assert size.error is None and first.children == 1
    later = DryRuns(DryRunBook(book))
    assert await later.sizes(str(model), [{"context_length": 1024}]) == size
    assert later.children == 0
    await later.sizes(str(model), [{"context_length": 2048}])
    assert later.children == 1
    os.utime(model, ns=(1, 1))
    changed = DryRuns(DryRunBook(book))
    await changed.sizes(str(model), [{"context_length": 1024}])
    assert changed.children == 1


async def test_refusals_and_builds_with_accelerators_are_not_kept(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    damaged = tmp_path / "damaged.gguf"
    with model.open("rb") as whole:
        damaged.write_bytes(whole.read(5000))
    book = tmp_path / "book.json"
    assert (await DryRuns(DryRunBook(book)).sizes(str(damaged), [{}])).error
    assert not book.exists()
    monkeypatch.setattr(dry_run_book, "backends", lambda: ["cpu", "cuda"])
    assert (await DryRuns(DryRunBook(book)).sizes(str(model), [{}])).error is None
    assert not book.exists()


async def test_a_book_that_is_no_book_is_empty(tmp_path: Path, model: Path):
    book = tmp_path / "book.json"
    book.write_text("{nonsense")
    assert (await DryRuns(DryRunBook(book)).sizes(str(model), [{}])).error is None
