"""The microVM driver and its templates, with machines that are none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fake_vmm import FakeHost, Process
from firelet.model.errors import FileSystemMountFailure, InvalidRuntime, PlatformError
from firelet.sandbox.cgroups import owner_name
from firelet.sandbox.driver import ExtensionStart, RuntimeExit, RuntimeStart
from firelet.sandbox.microvm import machine_sizes, templates
from firelet.sandbox.microvm.driver import MicrovmDriver
from firelet.sandbox.microvm.host_tools import ImageBuildError
from firelet.sandbox.microvm.machine_snapshot import MachineSnapshot
from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmState
from guest_ends import PATIENCE_S
from machines import Bench, FakeTree, disk, spec
from sandbox_contract import Told, Watched

pytestmark = pytest.mark.usefixtures("nothing_leaks")


def run(process: Process) -> int | None:
    kind = process.environment.get("KIND")
    if kind == "exit 3":
        return 3 << 8
    if kind is not None and kind != "hang":
        process.print(f"{kind}\n".encode())
    return None


def start(kind: str) -> RuntimeStart:
    return RuntimeStart(environment={"KIND": kind}, arguments=None, name="python3.13")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "microvm", FakeHost(run), FakeTree())


@pytest.fixture
async def driver(bench: Bench) -> AsyncIterator[MicrovmDriver]:
    driver = bench.driver()
    await driver.open()
    yield driver
    await driver.close()
    assert_nothing_left(bench)


def assert_nothing_left(bench: Bench) -> None:
    """All that a driver may leave are machines at rest, all of them complete."""
    assert bench.homes() == []
    assert all(machine.state is VmState.STOPPED for machine in bench.host.machines)
    assert all(group.is_removed for group in bench.tree.groups)
    assert not [name for name in bench.templates() if name.startswith(".")]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


# Templates.


async def test_a_template_is_made_once_however_many_want_it(
    driver: MicrovmDriver, bench: Bench
) -> None:
    sandboxes = await asyncio.gather(*(driver.create(spec()) for _ in range(5)))
    assert bench.host.steps["boot"] == 1
    assert bench.host.steps["restore"] == 5
    assert len({sandbox.id for sandbox in sandboxes}) == 5
    assert len(bench.templates()) == 1


async def test_each_size_has_a_template_of_its_own(driver: MicrovmDriver, bench: Bench) -> None:
    for memory_mib in (128, 129, 1_024, 128):
        await (await driver.create(spec(memory_mib=memory_mib))).stop()
    assert bench.host.steps["boot"] == 2
    sizes = {machine.spec.memory_mib for machine in bench.host.machines}
    assert sizes == {256, 2_048}


async def test_a_template_that_has_been_idle_is_held_on_the_disk_alone(
    driver: MicrovmDriver, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await driver.create(spec(memory_mib=128))
    monkeypatch.setattr(templates, "IDLE_S", -1.0)
    await driver.create(spec(memory_mib=1_024))  # lets go of the first, and of itself the next time
    monkeypatch.setattr(templates, "IDLE_S", 600.0)
    await driver.create(spec(memory_mib=128))
    assert bench.host.steps["boot"] == 2
    assert bench.host.steps["load"] == 1


async def test_a_template_is_found_again_by_the_next_driver(bench: Bench) -> None:
    for _ in range(2):
        driver = bench.driver()
        await driver.open()
        await driver.create(spec())
        await driver.close()
        assert_nothing_left(bench)
    assert bench.host.steps["boot"] == 1
    assert bench.host.steps["restore"] == 2


async def test_another_image_has_templates_of_its_own(bench: Bench) -> None:
    for image in ("one", "other", "one"):
        driver = bench.driver(image)
        await driver.open()
        await driver.create(spec())
        await driver.close()
    assert bench.host.steps["boot"] == 2
    assert len(bench.templates()) == 2


@pytest.mark.parametrize("text", ["rubbish", '{"image": "another", "guest": {}}'])
async def test_one_that_is_damaged_or_foreign_is_made_anew(bench: Bench, text: str) -> None:
    for boots in (1, 2):
        driver = bench.driver()
        await driver.open()
        await driver.create(spec())
        await driver.close()
        assert bench.host.steps["boot"] == boots
        (name,) = bench.templates()
        (bench.root / "templates" / name / "state").write_text(text)


@pytest.mark.parametrize("error", [VmmEnded("It ended."), VmmRefused("no", "no")])
async def test_one_that_cannot_be_restored_is_made_anew_once(
    driver: MicrovmDriver, bench: Bench, error: Exception
) -> None:
    bench.host.failing["restore"] = error
    with pytest.raises(type(error)):
        await driver.create(spec())
    assert bench.host.steps["boot"] == bench.host.steps["restore"] == 2
    assert len(bench.homes()) == 0
    del bench.host.failing["restore"]
    await driver.create(spec())
    assert bench.host.steps["boot"] == 2
    assert len(bench.templates()) == 1


async def test_one_whose_guest_ends_when_it_is_restored_is_made_anew(
    driver: MicrovmDriver, bench: Bench
) -> None:
    bench.host.withheld.add("assigned")
    creating = asyncio.create_task(driver.create(spec()))
    await eventually(lambda: bench.host.heard["assign"] == 1)
    bench.host.withheld.clear()
    signal.pidfd_send_signal(bench.host.machines[-1].pidfd, signal.SIGKILL)
    assert not (await creating).is_dead
    assert bench.host.steps["boot"] == 2


async def test_many_that_cannot_restore_one_template_give_it_up_once(
    driver: MicrovmDriver, bench: Bench
) -> None:
    await (await driver.create(spec())).stop()
    bench.host.failing["restore"] = VmmRefused("no", "no")
    results = await asyncio.gather(
        *(driver.create(spec()) for _ in range(4)), return_exceptions=True
    )
    assert [type(result) for result in results] == [VmmRefused] * 4
    assert bench.host.steps["boot"] <= 3
    assert len(bench.templates()) == 1


async def test_errors_that_a_new_template_does_not_mend_are_the_callers(
    driver: MicrovmDriver, bench: Bench
) -> None:
    bench.host.failing["resume"] = PlatformError("something else")
    with pytest.raises(PlatformError, match="something else"):
        await driver.create(spec())
    assert bench.host.steps["boot"] == 1


@pytest.mark.parametrize("withheld", ["hello", "embryo"])
async def test_a_boot_that_does_not_get_there_ends_with_the_console(
    driver: MicrovmDriver, bench: Bench, monkeypatch: pytest.MonkeyPatch, withheld: str
) -> None:
    monkeypatch.setattr(templates, "BOOT_TIMEOUT_S", 0.2)
    bench.host.withheld.add(withheld)
    with pytest.raises(VmmEnded, match=r"did not boot in time.*last words of the console"):
        await driver.create(spec())
    assert_nothing_left(bench)
    assert bench.templates() == []


async def test_a_boot_that_fails_ends_with_the_console_and_is_tried_again_by_the_next(
    driver: MicrovmDriver, bench: Bench
) -> None:
    bench.host.failing["boot"] = PlatformError("No.")
    for boots in (1, 2):
        with pytest.raises(VmmEnded, match=r"did not boot: No\..*last words of the console"):
            await driver.create(spec())
        assert bench.host.steps["boot"] == boots
        assert_nothing_left(bench)
    del bench.host.failing["boot"]
    await driver.create(spec())


async def test_a_guest_that_ends_while_it_boots_is_told_at_once(
    driver: MicrovmDriver, bench: Bench
) -> None:
    bench.host.withheld.add("embryo")
    creating = asyncio.create_task(driver.create(spec()))
    await eventually(lambda: bench.host.heard["enter"] == 1)
    signal.pidfd_send_signal(bench.host.machines[-1].pidfd, signal.SIGKILL)
    with pytest.raises(VmmEnded, match="last words of the console"):
        await creating
    assert_nothing_left(bench)


@pytest.mark.parametrize("step", ["pause", "snapshot"])
async def test_a_machine_that_cannot_be_put_to_rest_leaves_nothing(
    driver: MicrovmDriver, bench: Bench, step: str
) -> None:
    bench.host.failing[step] = VmmEnded("No.")
    with pytest.raises(VmmEnded):
        await driver.create(spec())
    assert_nothing_left(bench)
    assert bench.templates() == []


# Sandboxes.


async def test_a_sandbox_has_the_functions_files_in_its_slots(
    driver: MicrovmDriver, bench: Bench
) -> None:
    await driver.create(spec(layers=("l1", "l2")))
    drives = [drive.path for drive in bench.host.machines[-1].spec.drives]
    names = ["base", "runtime-python3.13", f"package-{'c' * 64}", "package-l1-l2"]
    assert drives == [disk(name).path for name in names]
    first = [drive.path for drive in bench.host.machines[0].spec.drives]
    assert first == [*drives[:2], disk("empty").path, disk("empty").path]


async def test_the_root_of_an_image_is_in_the_slot_of_the_code(
    driver: MicrovmDriver, bench: Bench
) -> None:
    await driver.create(spec(code="", image=("i1", "i2")))
    assert bench.host.machines[-1].spec.drives[2].path == disk("image-i1-i2").path


async def test_processors_are_an_emulators_share(driver: MicrovmDriver, bench: Bench) -> None:
    sandbox = await driver.create(spec())
    sandbox.set_vcpus(0.1)
    sandbox.set_vcpus(None)
    assert bench.tree.groups[-1].vcpus == [0.1 * machine_sizes.EMULATION_FACTOR, None]


async def test_what_cannot_be_had_is_said_before_anything_is_made(
    driver: MicrovmDriver, bench: Bench
) -> None:
    with pytest.raises(InvalidRuntime):
        await driver.create(spec(runtime="cobol"))
    bench.file_systems["missing"] = bench.root / "missing"
    for arn in ("unknown", "missing"):
        with pytest.raises(FileSystemMountFailure, match="No such file or directory"):
            await driver.create(spec(file_systems=((arn, "/mnt/x"),)))
    bench.disks.failure = ImageBuildError("The disk is full.")
    with pytest.raises(ImageBuildError):
        await driver.create(spec())
    assert bench.host.machines == []


async def test_a_runtime_that_is_expected_has_its_disk_made(
    driver: MicrovmDriver, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.runtime_disk_failure = PlatformError("The disk is full.")
    driver.expect("cobol")
    driver.expect("python3.13")
    await eventually(lambda: "disk not made" in caplog.text)


@pytest.mark.parametrize("failure", ["cgroup", "vmm", "user"])
async def test_a_machine_that_cannot_be_made_leaves_nothing(
    driver: MicrovmDriver, bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left")

    if failure == "cgroup":
        bench.tree.failure = OSError(28, "No space left")
    elif failure == "vmm":
        monkeypatch.setattr(bench.host, "machines", None)
    else:
        monkeypatch.setattr(driver, "_has_users", True)
        monkeypatch.setattr(driver._uids, "take", fail)
    with pytest.raises((OSError, AttributeError)):
        await driver.create(spec())
    monkeypatch.undo()
    assert_nothing_left(bench)


# Snapshots and clones.


async def sealed(driver: MicrovmDriver) -> MachineSnapshot:
    snapshot = await driver.create_snapshot(spec())
    snapshot.start_runtime(start("hang"))
    await driver.seal(snapshot)
    return snapshot


async def test_a_snapshot_is_cloned_and_clones_go_on_where_it_rested(
    driver: MicrovmDriver, bench: Bench
) -> None:
    snapshot = await sealed(driver)
    assert not snapshot.is_dead
    assert bench.host.machines[-1].spec.has_own_memory
    clones = [await driver.clone(snapshot, spec()) for _ in range(2)]
    for number, clone in enumerate(clones):
        clone.start_runtime(start(f"clone {number}"))
        await Watched(clone).read(clone.output_fd, f"clone {number}\n".encode())
    assert bench.host.heard["reopen"] == 2
    assert bench.host.heard["assign"] == 1


async def test_a_snapshot_that_is_not_at_rest_is_not_cloned(driver: MicrovmDriver) -> None:
    snapshot = await driver.create_snapshot(spec())
    with pytest.raises(PlatformError, match="not at rest"):
        await driver.clone(snapshot, spec())


async def test_a_snapshot_that_was_stopped_is_not_cloned(driver: MicrovmDriver) -> None:
    snapshot = await sealed(driver)
    await snapshot.stop()
    with pytest.raises(PlatformError):
        await driver.clone(snapshot, spec())
    with pytest.raises(PlatformError):
        await driver.seal(snapshot)


async def test_clones_outlive_their_snapshot(driver: MicrovmDriver) -> None:
    snapshot = await sealed(driver)
    clone = await driver.clone(snapshot, spec())
    await snapshot.stop()
    clone.start_runtime(start("still there"))
    await Watched(clone).read(clone.output_fd, b"still there\n")


async def test_a_clone_ends_with_its_runtime_and_tells_it_once(
    driver: MicrovmDriver, bench: Bench
) -> None:
    clone = Watched(await driver.clone(await sealed(driver), spec()))
    clone.sandbox.start_runtime(start("exit 3"))
    assert await clone.ending() == RuntimeExit(3, None)
    assert clone.sandbox.is_dead
    with pytest.raises(PlatformError):
        await clone.sandbox.kill_processes()
    clone.sandbox.kill()
    await bench.host.machines[-1].wait()
    await clone.sandbox.stop()
    assert clone.endings == [RuntimeExit(3, None)]


async def test_a_clone_that_was_frozen_before_its_end_was_read_is_ended(
    driver: MicrovmDriver, bench: Bench
) -> None:
    clone = Watched(await driver.clone(await sealed(driver), spec()))
    clone.sandbox.start_runtime(start("exit 3"))
    clone.sandbox.freeze()
    await clone.ending()
    await clone.sandbox.stop()


async def test_a_clone_with_extensions_lives_on_a_little(driver: MicrovmDriver) -> None:
    clone = Watched(await driver.clone(await sealed(driver), spec()))
    extension = ExtensionStart(name="none", path="/opt/extensions/none", environment={})
    told = Told()
    os.close(clone.sandbox.start_extension(extension, told))
    clone.sandbox.start_runtime(start("exit 3"))
    await clone.ending()
    assert not clone.sandbox.is_dead


async def test_a_sealed_snapshot_is_frozen_thawed_and_killed_like_any_other(
    driver: MicrovmDriver, bench: Bench
) -> None:
    for tree in (bench.tree, None):
        driver._cgroups = tree  # type: ignore[assignment]
        snapshot = await sealed(driver)
        snapshot.freeze()
        snapshot.thaw()
        snapshot.kill()
        await snapshot.stop()
    driver._cgroups = bench.tree  # type: ignore[assignment]


# Ends.


async def test_machines_in_every_state_end_with_the_driver(bench: Bench) -> None:
    driver = bench.driver()
    await driver.open()
    running = await driver.create(spec())
    frozen = await driver.create(spec())
    frozen.freeze()
    dead = await driver.create(spec())
    dead.kill()
    snapshot = await sealed(driver)
    await driver.clone(snapshot, spec())
    stopped = await driver.create(spec())
    await stopped.stop()
    ended = await driver.create(spec())
    signal.pidfd_send_signal(bench.host.machines[-1].pidfd, signal.SIGKILL)
    await eventually(lambda: ended.is_dead)
    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0)
    await driver.close()
    await stopping
    assert_nothing_left(bench)


@pytest.mark.parametrize(
    "where", ["boot", "hello", "embryo", "resting", "pause", "snapshot", "restore", "resume",
              "assigned"],
)  # fmt: skip
async def test_who_waits_for_a_machine_when_the_driver_is_closed_hears_of_it(
    bench: Bench, where: str
) -> None:
    driver = bench.driver()
    await driver.open()
    creating = await begin(lambda: driver.create(spec()), bench, where)
    async with asyncio.timeout(PATIENCE_S):
        await driver.close()
        with pytest.raises(PlatformError):
            await unblock(creating, bench)
    assert_nothing_left(bench)


async def test_a_snapshot_that_is_being_sealed_when_the_driver_is_closed_is_ended(
    bench: Bench,
) -> None:
    for where in ("resting", "pause", "snapshot"):
        driver = bench.driver()
        await driver.open()
        snapshot = await driver.create_snapshot(spec())
        sealing = await begin(lambda d=driver, s=snapshot: d.seal(s), bench, where)
        await driver.close()
        with pytest.raises(PlatformError):
            await unblock(sealing, bench)
        assert_nothing_left(bench)


async def test_a_closed_driver_makes_no_machines(bench: Bench) -> None:
    driver = bench.driver()
    await driver.open()
    await driver.create(spec())
    await driver.close()
    with pytest.raises(PlatformError):
        await driver.create(spec())
    with pytest.raises(PlatformError):
        await driver.create(spec(memory_mib=3_000))
    assert_nothing_left(bench)


async def begin(make: Callable[[], Awaitable[Any]], bench: Bench, where: str) -> asyncio.Task[Any]:
    """Begins it; returns where it hangs: at a step of the machine, or at an answer of the guest."""
    asked = {"hello": "boot", "embryo": "enter", "resting": "rest", "assigned": "assign"}.get(where)
    if asked is None:
        bench.host.hanging.add(where)
        counter, name = bench.host.steps, where
    else:
        bench.host.withheld.add(where)
        counter, name = (bench.host.steps if asked == "boot" else bench.host.heard), asked
    before = counter[name]
    task = asyncio.ensure_future(make())
    await eventually(lambda: counter[name] > before or task.done())
    await asyncio.sleep(0.01)
    return task


async def unblock(task: asyncio.Task[Any], bench: Bench) -> Any:
    """What became of it, once nothing hangs any more."""
    bench.host.release()
    bench.host.withheld.clear()
    return await task


@pytest.mark.parametrize("where", ["load", "restore", "resume", "assigned", "snapshot", "resting",
                                   "pause"])  # fmt: skip
@pytest.mark.parametrize("what", ["create", "create_snapshot", "seal", "clone"])
async def test_who_gives_up_waiting_leaves_nothing(bench: Bench, what: str, where: str) -> None:
    driver = bench.driver()
    await driver.open()
    await (await driver.create(spec())).stop()  # the template is there
    kept: list[MachineSnapshot] = []
    if what == "create":
        make: Callable[[], Awaitable[Any]] = lambda: driver.create(spec())  # noqa: E731
    elif what == "create_snapshot":
        make = lambda: driver.create_snapshot(spec())  # noqa: E731
    elif what == "seal":
        kept.append(await driver.create_snapshot(spec()))
        make = lambda: driver.seal(kept[0])  # noqa: E731
    else:
        kept.append(await sealed(driver))
        make = lambda: driver.clone(kept[0], spec())  # noqa: E731
    task = await begin(make, bench, where)
    if task.done():  # it does not come by there
        made = task.result()
        if made is not None:
            await made.stop()
    else:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    for snapshot in kept:
        await snapshot.stop()
    assert_nothing_left(bench)
    await driver.close()


async def test_whoever_gives_up_waiting_for_a_template_does_not_end_it_for_the_others(
    driver: MicrovmDriver, bench: Bench
) -> None:
    bench.host.withheld.add("embryo")
    first, second = (asyncio.create_task(driver.create(spec())) for _ in range(2))
    await eventually(lambda: bench.host.heard["enter"] == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await bench.host.machines[0].guest.say_event(event="embryo")
    bench.host.withheld.clear()
    await second
    assert bench.host.steps["boot"] == 1


async def test_a_template_that_nobody_has_wanted_for_long_is_removed(bench: Bench) -> None:
    for boots in (1, 1, 2):
        driver = bench.driver()
        await driver.open()
        await driver.create(spec())
        await driver.close()
        assert bench.host.steps["boot"] == boots
        (name,) = bench.templates()
        assert (bench.root / "templates" / name).stat().st_mtime > time.time() - 60
        if boots == bench.host.steps["load"] == 1:
            os.utime(bench.root / "templates" / name, (0, 0))


async def test_what_a_crash_has_left_goes_at_the_start(bench: Bench) -> None:
    machines = bench.root / "machines"
    with subprocess.Popen(["/bin/sleep", "1000"]) as other:
        alive = owner_name(other.pid)
        for name in (alive, f"{other.pid}-1", f"{os.getpid()}-1", "4194304-7", "rubbish"):
            (machines / name / "machine").mkdir(parents=True)
        driver = bench.driver()
        await driver.open()
        assert sorted(path.name for path in machines.iterdir()) == sorted([alive, owner_name()])
        await driver.close()
        other.kill()
