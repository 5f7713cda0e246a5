"""Control groups of both versions on a fake file system: what is written, and what is swept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firelet.model import limits
from firelet.sandbox import cgroups
from firelet.sandbox.cgroups import Cgroup, CgroupTree, Limits, cpu_quota_us, owner_name
from unit.sandbox.fake_cgroups import FakeCgroups, install

DEAD_OWNER = "999999999-1"
NAME = "a" * 32
PID = 4_000_001

MakeHost = Callable[..., FakeCgroups]


@pytest.fixture
def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    def make(version: int, *missing: str) -> FakeCgroups:
        root = tmp_path / f"cgroup{version}"
        root.mkdir()
        fake = FakeCgroups(root, version, frozenset(missing))
        install(fake, monkeypatch)
        return fake

    return make


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def host(request: pytest.FixtureRequest, make_host: MakeHost) -> FakeCgroups:
    return make_host(request.param)


@pytest.fixture
def tree(host: FakeCgroups) -> CgroupTree:
    return cgroups.open_tree(host.version, host.root)


@pytest.fixture
def group(tree: CgroupTree) -> Iterator[Cgroup]:
    group = tree.create(NAME)
    yield group
    group.remove()


def contents(host: FakeCgroups, name: str, file: str) -> str:
    (found,) = list(host.root.rglob(f"{name}/{file}"))
    return found.read_text()


class TestBothVersions:
    def test_each_platform_process_has_a_directory_of_its_own(
        self, host: FakeCgroups, tree: CgroupTree
    ) -> None:
        homes = host.groups(owner_name())
        assert len(homes) == (4 if host.version == 1 else 1)
        assert {home.parent.name for home in homes} == {"firelet"}
        tree.close()
        assert host.groups(owner_name()) == []

    def test_a_process_joins_every_group_through_the_open_files(
        self, host: FakeCgroups, group: Cgroup
    ) -> None:
        for fd in group.procs_fds:
            os.write(fd, b"0")
        # In version 1 by the file that does not have the kernel wait for all forks and exits.
        file = "tasks" if host.version == 1 else "cgroup.procs"
        texts = [(path / file).read_text() for path in host.groups(NAME)]
        assert texts == ["0"] * len(group.procs_fds)
        for path in host.groups(NAME):
            (path / file).write_text("")

    def test_the_files_for_joining_are_closed_once(self, group: Cgroup) -> None:
        fds = list(group.procs_fds)
        assert not any(os.get_inheritable(fd) for fd in fds)
        group.close_procs()
        group.close_procs()
        assert group.procs_fds == []
        for fd in fds:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)

    def test_a_group_is_gone_after_its_removal_with_every_process_inside(
        self, host: FakeCgroups, tree: CgroupTree
    ) -> None:
        group = tree.create(NAME)
        host.join(PID, NAME)
        group.remove()
        assert host.groups(NAME) == []

    def test_removal_does_not_wait_for_a_frozen_process_to_thaw_by_itself(
        self, host: FakeCgroups, tree: CgroupTree
    ) -> None:
        group = tree.create(NAME)
        host.join(PID, NAME)
        group.freeze()
        group.remove()
        assert host.groups(NAME) == []

    def test_removal_takes_a_group_that_something_else_removed(
        self, host: FakeCgroups, tree: CgroupTree
    ) -> None:
        group = tree.create(NAME)
        for path in host.groups(NAME):
            host.rmdir(path)
        group.remove()

    def test_closing_the_tree_removes_the_groups_that_are_left(
        self, host: FakeCgroups, tree: CgroupTree
    ) -> None:
        group = tree.create(NAME)
        host.join(PID, NAME)
        group.close_procs()
        tree.close()
        assert host.groups(owner_name()) == []


class TestVersion1:
    @pytest.fixture
    def host(self, make_host: MakeHost) -> FakeCgroups:
        return make_host(1)

    def test_limits_are_bytes_and_a_quota_per_period(
        self, host: FakeCgroups, group: Cgroup
    ) -> None:
        group.set_limits(Limits(memory_mib=256, vcpus=0.5))
        assert contents(host, NAME, "memory.limit_in_bytes") == str(256 * 2**20)
        assert contents(host, NAME, "memory.memsw.limit_in_bytes") == str(256 * 2**20)
        assert contents(host, NAME, "pids.max") == "1024"
        assert contents(host, NAME, "cpu.cfs_period_us") == str(limits.CPU_PERIOD_US)
        assert contents(host, NAME, "cpu.cfs_quota_us") == str(limits.CPU_PERIOD_US // 2)

    def test_no_quota_means_all_of_the_host(self, host: FakeCgroups, group: Cgroup) -> None:
        group.set_vcpus(1.0)
        group.set_vcpus(None)
        assert contents(host, NAME, "cpu.cfs_quota_us") == "-1"

    def test_a_kernel_that_does_not_count_swap_is_fine(self, make_host: MakeHost) -> None:
        host = make_host(1, "memory.memsw.limit_in_bytes")
        group = cgroups.open_tree(1, host.root).create(NAME)
        group.set_limits(Limits(memory_mib=128, vcpus=None))
        assert contents(host, NAME, "memory.limit_in_bytes") == str(128 * 2**20)
        group.remove()

    def test_freezing_and_thawing_are_states(self, host: FakeCgroups, group: Cgroup) -> None:
        group.freeze()
        assert contents(host, NAME, "freezer.state") == "FROZEN"
        group.thaw()
        assert contents(host, NAME, "freezer.state") == "THAWED"

    def test_memory_and_out_of_memory_are_read_anew_each_time(
        self, host: FakeCgroups, group: Cgroup
    ) -> None:
        memory = host.root / "memory/firelet" / owner_name() / NAME
        assert (group.memory_peak_bytes(), group.oom_kills()) == (0, 0)
        assert group.memory_bytes() == 2048
        (memory / "memory.max_usage_in_bytes").write_text("12345678\n")
        (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
        assert (group.memory_peak_bytes(), group.oom_kills()) == (12345678, 2)

    def test_a_kernel_that_does_not_count_kills_has_none(
        self, host: FakeCgroups, group: Cgroup
    ) -> None:
        memory = host.root / "memory/firelet" / owner_name() / NAME
        (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
        assert group.oom_kills() == 0


class TestVersion2:
    @pytest.fixture
    def host(self, make_host: MakeHost) -> FakeCgroups:
        return make_host(2)

    def test_controllers_are_handed_down_from_the_root(
        self, host: FakeCgroups, tree: CgroupTree
    ) -> None:
        home = host.root / "firelet" / owner_name()
        for directory in (host.root, host.root / "firelet", home):
            assert (directory / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"

    def test_limits_are_bytes_and_a_quota_per_period(
        self, host: FakeCgroups, group: Cgroup
    ) -> None:
        group.set_limits(Limits(memory_mib=256, vcpus=2.0, pids=99))
        assert contents(host, NAME, "memory.max") == str(256 * 2**20)
        assert contents(host, NAME, "memory.swap.max") == "0"
        assert contents(host, NAME, "pids.max") == "99"
        assert (
            contents(host, NAME, "cpu.max") == f"{2 * limits.CPU_PERIOD_US} {limits.CPU_PERIOD_US}"
        )

    def test_no_quota_means_all_of_the_host(self, host: FakeCgroups, group: Cgroup) -> None:
        group.set_vcpus(None)
        assert contents(host, NAME, "cpu.max") == f"max {limits.CPU_PERIOD_US}"

    def test_freezing_and_thawing_are_numbers(self, host: FakeCgroups, group: Cgroup) -> None:
        group.freeze()
        assert contents(host, NAME, "cgroup.freeze") == "1"
        group.thaw()
        assert contents(host, NAME, "cgroup.freeze") == "0"

    def test_memory_and_out_of_memory_are_read_anew_each_time(
        self, host: FakeCgroups, group: Cgroup
    ) -> None:
        directory = host.root / "firelet" / owner_name() / NAME
        assert (group.memory_peak_bytes(), group.oom_kills()) == (8192, 0)
        assert group.memory_bytes() == 4096
        (directory / "memory.peak").write_text("99999\n")
        (directory / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
        assert (group.memory_peak_bytes(), group.oom_kills()) == (99999, 1)

    def test_an_old_kernel_tells_its_present_use(self, make_host: MakeHost) -> None:
        host = make_host(2, "memory.peak", "memory.swap.max")
        group = cgroups.open_tree(2, host.root).create(NAME)
        group.set_limits(Limits(memory_mib=128, vcpus=None))
        assert group.memory_peak_bytes() == 4096
        group.remove()


class TestSweep:
    def leave_behind(self, host: FakeCgroups, *, is_frozen: bool = False) -> None:
        """What a killed platform leaves: groups with a process in them."""
        tree = (cgroups.V2Tree if host.version == 2 else cgroups.V1Tree)(host.root, DEAD_OWNER)
        group = tree.create(NAME)
        group.close_procs()
        host.join(PID, NAME)
        if is_frozen:
            group.freeze()

    def test_what_a_dead_owner_left_is_ended_and_removed(self, host: FakeCgroups) -> None:
        self.leave_behind(host)
        assert cgroups.sweep(host.root) == [DEAD_OWNER]
        assert host.groups(DEAD_OWNER) == []

    def test_what_a_dead_owner_left_frozen_is_ended_and_removed(self, host: FakeCgroups) -> None:
        self.leave_behind(host, is_frozen=True)
        assert cgroups.sweep(host.root) == [DEAD_OWNER]
        assert host.groups(DEAD_OWNER) == []

    @pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV], ids=["early", "late"])
    def test_another_may_be_faster(
        self, host: FakeCgroups, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """A janitor and the next start of a platform may sweep at once."""
        self.leave_behind(host, is_frozen=True)

        def write_too_late(path: Path, _text: str) -> None:
            monkeypatch.setattr(cgroups, "_write", host.write)
            assert cgroups.sweep(host.root) == [DEAD_OWNER]
            raise OSError(number, "the group is gone", str(path))

        monkeypatch.setattr(cgroups, "_write", write_too_late)
        assert cgroups.sweep(host.root) == [DEAD_OWNER]
        assert host.groups(DEAD_OWNER) == []

    def test_a_living_owner_is_left_alone(self, host: FakeCgroups, tree: CgroupTree) -> None:
        group = tree.create(NAME)
        host.join(PID, NAME)
        assert cgroups.sweep(host.root) == []
        assert host.groups(NAME) != []
        group.remove()

    def test_an_owner_whose_number_another_process_has_now_is_dead(self, host: FakeCgroups) -> None:
        reused = f"{os.getpid()}-1"
        cgroups.open_tree(host.version, host.root)
        (cgroups.V2Tree if host.version == 2 else cgroups.V1Tree)(host.root, reused)
        assert cgroups.sweep(host.root) == [reused]
        assert host.groups(owner_name()) != []

    def test_a_host_where_nothing_ever_ran_has_nothing_to_sweep(self, tmp_path: Path) -> None:
        assert cgroups.sweep(tmp_path) == []


class TestFindVersion:
    def test_a_whole_version_2_is_preferred(self, make_host: MakeHost) -> None:
        assert cgroups.find_version(make_host(2).root) == 2

    def test_version_1_with_every_controller_will_do(self, make_host: MakeHost) -> None:
        assert cgroups.find_version(make_host(1).root) == 1

    def test_a_version_2_without_the_controllers_will_not(self, make_host: MakeHost) -> None:
        host = make_host(2)
        (host.root / "cgroup.controllers").write_text("hugetlb\n")
        assert cgroups.find_version(host.root) is None

    def test_a_version_1_without_one_of_them_will_not(self, make_host: MakeHost) -> None:
        host = make_host(1)
        (host.root / "pids" / "cgroup.procs").unlink()
        assert cgroups.find_version(host.root) is None

    def test_a_host_without_any_has_none(self, tmp_path: Path) -> None:
        assert cgroups.find_version(tmp_path) is None


@pytest.mark.parametrize(
    ("memory_mib", "quota_us"), [(128, 1447), (1769, 20_000), (3538, 40_000), (10_240, 115_772)]
)
def test_the_quota_is_linear_in_memory(memory_mib: int, quota_us: int) -> None:
    assert cpu_quota_us(memory_mib / limits.MEMORY_PER_VCPU_MIB) == quota_us


def test_no_quota_is_below_what_the_kernel_takes() -> None:
    assert cpu_quota_us(0.001) == limits.CPU_QUOTA_MIN_US


def test_an_owner_s_name_is_its_number_and_its_start() -> None:
    pid, _, started = owner_name().partition("-")
    assert int(pid) == os.getpid()
    assert int(started) > 0
