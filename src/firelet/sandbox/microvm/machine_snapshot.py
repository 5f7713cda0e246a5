"""Snapshots and clones of the microVM driver: machines at rest after INIT, and what goes on there.

A Python runtime stops at its restore point, as on a host, and is told there when it is a clone.
Any other runtime waits for its first event when its machine is put to rest, and asks once more for
it in each clone without noticing.
"""

from __future__ import annotations

from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.driver import RuntimeExit, RuntimeStart
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from firelet.sandbox.microvm.vmm import VmSnapshot
from firelet.sandbox.pid1_messages import start_message


class MachineSnapshot(MachineSandbox):
    """A sandbox that is put to rest after INIT and cloned. ``at_rest`` is None until then; clones
    have the same drives."""

    at_rest: VmSnapshot | None = None

    def start_runtime(self, start: RuntimeStart) -> None:
        rests = start.arguments is None  # the Python client, which knows of restore points
        self._tell(do="tell", message={**start_message(start), "rests": rests})
        self._has_runtime = True

    async def seal(self) -> None:
        """The machine ends, and is cloned from now on."""
        if self.is_dead:
            raise SandboxEnded
        place = self.directory / "rest"
        place.mkdir()
        self.at_rest = await self.rest(place)

    async def _stop(self) -> None:
        try:
            await super()._stop()
        finally:  # it may have been about to be sealed
            at_rest, self.at_rest = self.at_rest, None
            if at_rest is not None:
                at_rest.close()


class MachineClone(MachineSandbox):
    """A sandbox that continues from a machine at rest. It ends with its runtime: whatever state
    that was in, the next clone starts from the restore point."""

    def begin_awakening(self) -> None:
        super().begin_awakening()
        self._has_runtime = True  # since before it was cloned

    def start_runtime(self, start: RuntimeStart) -> None:
        """Goes on: a Python client with the variables added, any other as it was."""
        self._tell(do="reopen")
        message = {"op": "continue", "environment": dict(start.environment)}
        self._tell(do="tell", message=message)

    async def kill_processes(self) -> None:
        raise PlatformError("A clone is not reset.")

    def _tell_exit(self, ending: RuntimeExit) -> None:
        """Extensions that are still there have a little time of their own."""
        self.is_dead = self.is_dead or self._watcher is None
        super()._tell_exit(ending)
