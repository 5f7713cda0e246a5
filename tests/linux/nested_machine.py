"""Run inside an emulated guest that has KVM: a machine of its own boots, rests and is cloned.

Prints what it found as one line of JSON. Not a test by itself: see ``test_nested_kvm``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from firelet.sandbox.microvm.guest_channel import GuestChannel
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import Drive, VmSpec

PLACE = Path("/tmp")
PATIENCE_S = 120.0
USER = 60_001
LOOK = (
    "cat /sys/devices/system/clocksource/clocksource0/current_clocksource;"
    "head -c 5 /dev/vda; echo kept >/tmp/kept"
)
LOOK_AGAIN = "cat /tmp/kept; head -c 5 /dev/vda"


async def main() -> None:
    kernel, initrd = map(Path, sys.argv[1:3])
    drive = PLACE / "drive"
    drive.write_bytes(b"drive".ljust(1024 * 1024, b"."))
    spec = VmSpec(
        kernel=kernel,
        initrd=initrd,
        memory_mib=128,
        directory=PLACE,
        drives=(Drive(drive),),
        user=USER,
    )
    first, clone = QemuVmm(spec, has_kvm=True), QemuVmm(spec, has_kvm=True)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await first.boot()
            guest = GuestChannel(first.take_channel())
            await guest.hello()
            seen = await run(guest, LOOK)
            await first.pause()
            (await first.snapshot(PLACE)).close()
            snapshot = await clone.load(PLACE)
            await clone.restore(snapshot)
            await clone.resume()
            guest = GuestChannel(clone.take_channel())
            await guest.awaken()
            print(json.dumps([seen, await run(guest, LOOK_AGAIN)]))
    except TimeoutError:
        print(first.console.text(), clone.console.text())
    finally:
        await first.stop()
        await clone.stop()


async def run(guest: GuestChannel, command: str) -> str:
    ending = await guest.run(["/bin/sh", "-c", command])
    return ending.output.decode()


if __name__ == "__main__":
    asyncio.run(main())
