"""How many layers each node gets: in proportion to what is free beside buffers, a process and the model's ends."""

from __future__ import annotations

import pytest

from xin.errors import BadRequest, LoadFailed, OutOfMemory
from xin.node.plan_need import GPU_BYTES, PROCESS_BYTES, Need
from xin.node.shards.division import Room, divide, in_words, together

MIB = 2**20
NEED = Need(weights=1100 * MIB, layers=[100 * MIB] * 10, kv=200 * MIB, compute=50 * MIB)
SIDE = PROCESS_BYTES + 50 * MIB
END = SIDE + 100 * MIB


def room(name: str, free: int, on_gpu: bool = False) -> Room:
    return Room(name, f"id-{name}", free, on_gpu)


def test_two_alike_get_half_each():
    parts = divide(NEED, [room("ant", 2**31), room("bee", 2**31)])
    assert [(part.node, part.node_id, part.layers) for part in parts] == [("ant", "id-ant", 5), ("bee", "id-bee", 5)]
    assert [part.need_bytes for part in parts] == [5 * 120 * MIB + END] * 2
    assert in_words(parts) == "5 layers on ant (0.9 GiB), 5 layers on bee (0.9 GiB)"


def test_layers_follow_what_is_free_beside_the_rest():
    rooms = [room("ant", END + 360 * MIB), room("bee", SIDE + 720 * MIB), room("cat", END + 120 * MIB)]
    parts = divide(NEED, rooms)
    assert [part.layers for part in parts] == [3, 6, 1]
    assert all(part.need_bytes <= one.free for part, one in zip(parts, rooms, strict=True))


def test_unequal_layers_are_counted_where_they_are_and_accelerators_of_the_worker_come_last():
    need = Need(weights=110 * MIB, layers=[10 * MIB, 20 * MIB, 30 * MIB, 40 * MIB], kv=0, compute=0)
    in_ram = divide(need, [room("ant", 2**30), room("bee", 2**30)])
    assert [part.need_bytes - PROCESS_BYTES for part in in_ram] == [(10 + 30) * MIB, (10 + 70) * MIB]
    on_gpu = divide(need, [room("ant", 2**31, True), room("bee", 2**31)])
    assert [part.layers for part in on_gpu] == [2, 2]
    assert on_gpu[0].need_bytes == (10 + 70) * MIB + PROCESS_BYTES + GPU_BYTES
    assert on_gpu[1].need_bytes == (10 + 30) * MIB + PROCESS_BYTES


def test_what_they_do_not_hold_together_is_refused_with_what_is_short_and_forced_all_the_same():
    rooms = [room("ant", END + 360 * MIB), room("bee", END + 540 * MIB)]
    with pytest.raises(OutOfMemory, match=r"0\.6 GiB on ant, 0\.8 GiB on bee: short by 0\.3 GiB") as refused:
        divide(NEED, rooms)
    assert refused.value.param == "shard"
    assert [part.layers for part in divide(NEED, rooms, force=True)] == [4, 6]
    assert sum(part.layers for part in divide(NEED, [room("ant", 0), room("bee", 0)], force=True)) == 10


def test_a_node_without_room_for_a_layer_is_named():
    with pytest.raises(BadRequest, match="bee has no room for a layer") as refused:
        divide(NEED, [room("ant", 2**33), room("bee", END + MIB)])
    assert refused.value.param == "shard"


def test_a_model_whose_layers_are_not_known_is_not_divided():
    with pytest.raises(LoadFailed, match="how many layers"):
        divide(Need(weights=MIB), [room("ant", 2**31), room("bee", 2**31)])


def test_the_fewest_that_hold_it_together_are_found_with_the_one_that_is_asked():
    small, half, large = (room(name, END + layers * 120 * MIB) for name, layers in (("a", 1), ("b", 6), ("c", 9)))
    assert together(NEED, [small, half, large]) == [small, large]
    assert together(NEED, [half, small, room("d", END + 480 * MIB)]) == [half, room("d", END + 480 * MIB)]
    assert together(NEED, [small, half, room("e", END + 480 * MIB)]) == [small, half, room("e", END + 480 * MIB)]
    assert together(NEED, [small, half]) == together(NEED, [large]) == []
