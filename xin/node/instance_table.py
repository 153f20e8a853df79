"""The instances of a node by uid, and how a request finds the one that it means."""

from __future__ import annotations

from collections.abc import Iterator

from xin.errors import Conflict, ModelNotFound
from xin.node.instance_runner import InstanceRunner
from xin.node.launch_plan import LaunchPlan

_PREFERENCE = ("ready", "loading", "downloading", "stopping", "failed")


class InstanceTable:
    """In the order in which they were launched."""

    def __init__(self) -> None:
        self._runners: dict[str, InstanceRunner] = {}

    def __iter__(self) -> Iterator[InstanceRunner]:
        return iter([*self._runners.values()])

    def put(self, runner: InstanceRunner) -> InstanceRunner | None:
        """The one that had its uid before."""
        old = self._runners.get(runner.uid)
        self._runners[runner.uid] = runner
        return old

    def remove(self, runner: InstanceRunner) -> None:
        """Nothing when another has its uid by now."""
        if self._runners.get(runner.uid) is runner:
            del self._runners[runner.uid]

    def replicas(self, uid: str) -> list[InstanceRunner]:
        """All that serve `uid`, the first one first."""
        return [runner for runner in self._runners.values() if runner.instance.served_uid == uid]

    def orphans(self, uid: str) -> list[InstanceRunner]:
        """Replicas of a first one that has failed."""
        first = self._runners.get(uid)
        return [one for one in self.replicas(uid) if one is not first] if first and first.state == "failed" else []

    def clear(self) -> None:
        self._runners.clear()

    def uids(self) -> list[str]:
        return [*self._runners]

    def find(self, name: str) -> InstanceRunner | None:
        """By its uid, else by its launch name the one that can soonest answer."""
        runner = self._runners.get(name)
        if runner is not None:
            return runner
        named = [one for one in self._runners.values() if one.answers_to(name) and not one.instance.serves]
        return min(named, key=lambda runner: _PREFERENCE.index(runner.state), default=None)

    def required(self, name: str) -> InstanceRunner:
        """`find`, or ModelNotFound."""
        runner = self.find(name)
        if runner is None:
            running = ", ".join(self._runners) or "nothing"
            raise ModelNotFound(f"no model {name!r} is running", f"running: {running}", param="model")
        return runner

    def by_uid(self, uid: str) -> InstanceRunner:
        """ModelNotFound for a launch name too."""
        runner = self.required(uid)
        if runner.uid != uid:
            raise ModelNotFound(f"no model has the uid {uid!r}", f"{uid} runs as {runner.uid}", param="model_uid")
        return runner

    def meant_by(self, plan: LaunchPlan) -> InstanceRunner | None:
        """The one that this launch means, or None for a new one. Conflict when its uid is something else's."""
        uid = plan.request.model_uid
        if uid is None:
            firsts = (runner for runner in self._runners.values() if not runner.instance.serves)
            same = (runner for runner in firsts if runner.plan.same_model(plan))
            return next((runner for runner in same if runner.state != "failed"), None)
        runner = self._runners.get(uid)
        if runner is None or runner.state == "failed":
            return None
        if runner.state == "stopping" or runner.plan.same_model(plan):
            return runner
        what = "with other options" if runner.plan.spec == plan.spec else f"by {runner.instance.model_name}"
        raise Conflict(f"the uid {uid} is taken {what}", f"choose another uid, or xin terminate {uid}")

    def free_uid(self, base: str) -> str:
        """`base`, `base-2`, …: the first that no instance has; a failed one gives its uid up."""
        uid, n = base, 1
        while uid in self._runners and self._runners[uid].state != "failed":
            n += 1
            uid = f"{base}-{n}"
        return uid
