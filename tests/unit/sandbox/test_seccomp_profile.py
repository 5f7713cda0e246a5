"""The system call filter as data, and that it compiles."""

from __future__ import annotations

import errno
from collections import Counter

import pytest

from firelet.linux import seccomp
from firelet.sandbox.seccomp_profile import (
    compile_profile,
    final_rules,
    inherited_rules,
    rules,
)

REFUSE = seccomp.errno_action(errno.EPERM)

# What gives a function power over the host or over others, or is kernel surface that it never
# needs.
DANGEROUS = """
acct add_key bpf chroot clock_settime delete_module fanotify_init finit_module fsconfig fsmount
fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
kexec_file_load kexec_load keyctl mount mount_setattr move_mount move_pages name_to_handle_at
open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_vm_readv
process_vm_writev ptrace quotactl reboot request_key setdomainname sethostname setns settimeofday
swapoff swapon syslog umount2 unshare userfaultfd vhangup
"""

NEEDED = """
accept4 bind brk clone connect epoll_pwait execve exit_group fork fsync futex getrandom kill
listen lseek mmap mprotect munmap openat openat2 pipe2 poll pread64 read recvmsg rename
rt_sigaction rt_sigreturn sched_yield sendmsg socket socketpair statx wait4 write
"""


def actions_by_name() -> dict[str, set[int]]:
    table: dict[str, set[int]] = {}
    for action, name, _ in rules():
        table.setdefault(name, set()).add(action)
    return table


def needs_libseccomp() -> str | None:
    try:
        seccomp.load_library()
    except OSError as error:
        return f"libseccomp is missing: {error}"
    return None


@pytest.mark.parametrize("name", DANGEROUS.split())
def test_a_dangerous_call_is_refused(name: str) -> None:
    assert actions_by_name()[name] == {REFUSE}


@pytest.mark.parametrize("name", NEEDED.split())
def test_a_call_that_every_program_makes_is_allowed(name: str) -> None:
    assert seccomp.ACT_ALLOW in actions_by_name()[name]


def test_no_call_is_both_allowed_and_refused() -> None:
    assert [name for name, actions in actions_by_name().items() if len(actions) > 1] == []


def test_no_call_is_listed_twice_without_a_condition() -> None:
    counted = Counter(name for _, name, conditions in rules() if not conditions)
    assert [name for name, times in counted.items() if times > 1] == []


def test_a_call_with_conditions_has_no_rule_without_one() -> None:
    unconditional = {name for _, name, conditions in rules() if not conditions}
    conditional = {name for _, name, conditions in rules() if conditions}
    assert conditional == {"clone", "personality", "socket"}
    assert not conditional & unconditional


def test_clone3_is_not_listed_so_that_libc_falls_back() -> None:
    assert "clone3" not in actions_by_name()


def test_the_two_parts_together_are_the_profile() -> None:
    """What the inherited part allows beyond the profile is what the final part refuses."""
    refused = {name for _, name, _ in final_rules()}
    inherited = [rule for rule in inherited_rules() if rule[1] not in refused]
    profile = [rule for rule in rules() if rule[1] not in refused]
    assert [rule[:2] for rule in inherited] == [rule[:2] for rule in profile]
    assert {rule[:2] for rule in final_rules()} == {(REFUSE, name) for name in refused}
    assert {(action, name) for action, name, _ in rules() if name in refused} == {
        (REFUSE, name) for name in refused
    }


def test_the_inherited_part_allows_beyond_the_profile_only_what_sets_a_sandbox_up() -> None:
    allowed = {name for action, name, _ in rules() if action == seccomp.ACT_ALLOW}
    inherited = {name for action, name, _ in inherited_rules() if action == seccomp.ACT_ALLOW}
    assert " ".join(sorted(inherited - allowed)) == (
        "mount mount_setattr move_mount open_tree pivot_root sethostname setns umount2 unshare"
    )


@pytest.mark.skipif(needs_libseccomp() is not None, reason=str(needs_libseccomp()))
class TestCompiled:
    def test_the_program_is_whole_instructions_and_within_the_kernel_s_limit(self) -> None:
        profile = compile_profile()
        for program in (profile.inherited, profile.final):
            assert len(program) % 8 == 0
            assert 0 < len(program) // 8 <= 4096

    def test_what_every_process_installs_itself_is_short(self) -> None:
        profile = compile_profile()
        assert len(profile.final) * 10 < len(profile.inherited)

    def test_a_name_of_another_architecture_is_left_out(self) -> None:
        bare = seccomp.compile_filter(REFUSE, [])
        with_unknown = seccomp.compile_filter(
            REFUSE, [(seccomp.ACT_ALLOW, "no_such_system_call", [])]
        )
        assert with_unknown == bare

    def test_a_rule_that_contradicts_the_default_is_an_error_or_a_rule(self) -> None:
        allowed = seccomp.compile_filter(REFUSE, [(seccomp.ACT_ALLOW, "read", [])])
        assert len(allowed) > len(seccomp.compile_filter(REFUSE, []))
