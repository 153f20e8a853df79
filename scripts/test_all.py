"""`make test-all`: every test, the slow ones too; what is skipped is named with what it lacks, and fails the run."""

from __future__ import annotations

import sys

import pytest


class NoSkips:
    """Remembers why tests were skipped."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report.longrepr)

    def _note(self, longrepr: object) -> None:
        reason = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


def main() -> int:
    skips = NoSkips()
    code = int(pytest.main(["-q", *sys.argv[1:]], plugins=[skips]))
    for reason, count in sorted(skips.reasons.items()):
        print(f"missing: {count} test(s) could not run: {reason.removeprefix('Skipped: ')}", file=sys.stderr)
    return code or int(bool(skips.reasons))


if __name__ == "__main__":
    sys.exit(main())
