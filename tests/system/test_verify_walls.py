"""What `fleet verify` finds out about the launcher's walls, and that it notices a missing one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.launch_spec import LaunchSpec
from fleet.operate.verify import walls
from fleet.programs import Installation
from lab.net import Lab
from tests.system.launching import Stage


class WithoutLauncher(Installation):
    """The same program under the worker's UID, with nothing before it."""

    def launcher(self, *arguments: str) -> list[str]:
        spec = LaunchSpec.of_json(Path(arguments[0]).read_text(encoding="utf-8"))
        return ["setpriv", f"--reuid={spec.uid}", "--regid=65534", "--clear-groups", *spec.argv]


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Stage:
    """The worker's account and folders in the lab's host."""
    return Stage(lab)


def test_the_walls_are_seen_and_so_is_their_absence(stage: Stage) -> None:
    """Nothing outlives a worker and nothing gives it rights; without the launcher both are found, and cleaned up."""
    spec, uid = stage.spec(["/bin/true"]), stage.worker.uid
    assert walls.look(spec, Installation(paths=stage.paths), uid) == walls.Walls()
    found = walls.look(spec, WithoutLauncher(paths=stage.paths), uid)
    assert found.error == "" and len(found.left) >= 2, "its session and what was stopped; more if they got that far"
    assert any("set-UID programs take effect on /" in one for one in found.rights) and len(found.rights) == 3
    assert not stage.wait_for_none(5)
    half = LaunchSpec.of_json(spec.read_text())
    spec.write_text(half._replace(user_namespaces=False).as_json())
    found = walls.look(spec, Installation(paths=stage.paths), uid)
    assert (found.left, bool(found.rights)) == ((), True), "Chrome's set-UID helper needs what is found"
