"""Which system calls a function may make, and the BPF program that says so.

The list is what Docker's default profile allows without capabilities, minus what a function never
needs: tracing and reading other processes, key rings, io_uring, userfaultfd, namespaces, bpf.
The program comes in two parts. To install the long one costs a process a quarter of a millisecond,
so the zygote does it once and everything that it forks inherits it; it still allows the few calls
by which a sandbox is set up. The short one, which each process of a sandbox installs as its last
step, refuses those too: the kernel takes the strictest answer of all filters.
A call that is listed as refused fails with EPERM; one that neither list knows fails with ENOSYS,
so that a newer libc falls back to the older call as it does on an older kernel.
Source: docs.docker.com/engine/security/seccomp; the reason for ENOSYS is runc's issue with glibc
and clone3. Proved by tests/security and tests/unit/sandbox/test_seccomp_profile.py.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from firelet.linux import namespaces, seccomp

_ALLOWED = """
accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr
flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait
futex_waitv futex_wake futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd
getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
gettid gettimeofday getuid getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl
ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown
lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek
lsetxattr lstat madvise map_shadow_stack mbind membarrier memfd_create memfd_secret mincore mkdir
mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock
munlockall munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe
pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 prlimit64
process_mrelease pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl
semget semop semtimedop sendfile sendmmsg sendmsg sendto set_mempolicy set_mempolicy_home_node
set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid
setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair
splice stat statfs statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill
time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
timerfd_gettime timerfd_settime times tkill truncate ugetrlimit umask uname unlink unlinkat utime
utimensat utimes vfork vmsplice wait4 waitid write writev
"""

_REFUSED = """
_sysctl acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init
fanotify_mark finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_uring_enter
io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
lookup_dcookie lsm_set_self_attr migrate_pages modify_ldt move_pages
name_to_handle_at nfsservctl open_by_handle_at perf_event_open pidfd_getfd
process_madvise process_vm_readv process_vm_writev ptrace query_module quotactl quotactl_fd reboot
request_key setdomainname settimeofday swapoff swapon sysfs syslog umount
uselib userfaultfd ustat vhangup
"""

# What pid 1 of a sandbox calls (``guest.steps``) before it installs the short program.
_SET_UP = "mount mount_setattr move_mount open_tree pivot_root sethostname setns umount2 unshare"

# AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK (getifaddrs needs it). Not AF_VSOCK, which reaches the
# host of a virtual machine, nor AF_ALG and AF_PACKET, kernel surface that no function needs.
_SOCKET_FAMILIES = (1, 2, 10, 16)

# PER_LINUX, PER_LINUX32 and their UNAME26 forms, and the query.
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

_NAMESPACE_FLAGS = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWCGROUP
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUSER
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWNET
)


@dataclass(frozen=True, slots=True)
class Profile:
    """The two parts, compiled: ``inherited`` is the zygote's, ``final`` each process's own."""

    inherited: bytes | None
    final: bytes


def rules(*, may_join: bool = False) -> list[seccomp.Rule]:
    """The profile as data: (action, system call, conditions). ``may_join`` also allows setns."""
    refuse = seccomp.errno_action(errno.EPERM)
    allowed = [*_ALLOWED.split(), *(["setns"] if may_join else [])]
    table: list[seccomp.Rule] = [(seccomp.ACT_ALLOW, name, []) for name in allowed]
    table += [(refuse, name, []) for name in _REFUSED.split()]
    table += [rule for rule in final_rules() if rule[1] not in allowed]
    table += [
        (seccomp.ACT_ALLOW, "socket", [seccomp.masked_equal(0, 0xFFFFFFFF, family)])
        for family in _SOCKET_FAMILIES
    ]
    table += [
        (seccomp.ACT_ALLOW, "personality", [seccomp.masked_equal(0, 0xFFFFFFFF, value)])
        for value in _PERSONALITIES
    ]
    # clone3 hides its flags behind a pointer, where no filter can look: ENOSYS, and libc uses
    # clone, whose flags are checked.
    table.append((seccomp.ACT_ALLOW, "clone", [seccomp.masked_equal(0, _NAMESPACE_FLAGS, 0)]))
    return table


def inherited_rules() -> list[seccomp.Rule]:
    """``rules``, but for the calls of the set-up, which are allowed."""
    set_up = _SET_UP.split()
    table = [rule for rule in rules() if rule[1] not in set_up]
    return table + [(seccomp.ACT_ALLOW, name, []) for name in set_up]


def final_rules() -> list[seccomp.Rule]:
    """What is refused on top; every other call is left to the inherited program."""
    return [(seccomp.errno_action(errno.EPERM), name, []) for name in _SET_UP.split()]


def compile_profile() -> Profile:
    """The BPF programs for the running architecture. Needs libseccomp on the host."""
    return Profile(
        inherited=seccomp.compile_filter(seccomp.errno_action(errno.ENOSYS), inherited_rules()),
        final=seccomp.compile_filter(seccomp.ACT_ALLOW, final_rules()),
    )


def compile_snapshot_profile(*, may_join: bool) -> Profile:
    """The profile in one part, for snapshots and their clones: pid 1 of a snapshot must have no
    filter to be allowed to suspend the one of a process that it moves.

    ``may_join`` is for where firelet is not root and cannot suspend it at all: that process makes
    its call, setns, with the filter on. A function that calls setns by itself gets no further than
    the namespaces of its own clones.
    """
    default = seccomp.errno_action(errno.ENOSYS)
    return Profile(inherited=None, final=seccomp.compile_filter(default, rules(may_join=may_join)))
