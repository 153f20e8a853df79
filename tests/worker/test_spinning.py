from __future__ import annotations

from xin.worker.main import SPIN_COUNT, bound_spinning


def test_spinning_is_bounded_unless_the_user_chose() -> None:
    for given, wanted in (
        ({}, {"GOMP_SPINCOUNT": SPIN_COUNT}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "passive"}),
    ):
        environ = dict(given)
        bound_spinning(environ)
        assert environ == wanted
