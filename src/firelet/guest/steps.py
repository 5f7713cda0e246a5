"""The ordered steps from a fresh fork to a sandbox, one function per step.

Called by ``pid1``, in the order in which they stand here. Each says why it is where it is.
The zygote calls ``give_up_for_good`` and ``find_proc_covers``, once. The order follows the rule
that a right is given up as soon as the last step that needs it is done, and that the system call
filter comes last.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
from typing import Iterable, NamedTuple

from firelet.linux import messages, mount, namespaces, network, process, seccomp

HIDDEN = "/.firelet"
_PROC_MASKED = ("kcore", "keys", "key-users", "latency_stats", "timer_list", "sched_debug")
_PROC_MASKED_DIRECTORIES = ("acpi", "scsi")
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_USER_NAME = "sbx_user1051"

_LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_STACK, 8 * 1024 * 1024),
    (resource.RLIMIT_MEMLOCK, 64 * 1024),
)


def give_up_for_good(inherited_filter: bytes | None) -> None:
    """In the zygote, for itself and for all that it forks: what none of them ever needs."""
    process.drop_bounding_set()
    process.set_no_new_privileges()
    if inherited_filter is not None:
        seccomp.install_filter(inherited_filter)


def join_cgroups(procs_fds: list[int]) -> None:
    """First, so that every page that the sandbox touches is charged to it."""
    for fd in procs_fds:
        os.write(fd, b"0")
        os.close(fd)


def enter_namespaces(hostname: str) -> None:
    """New mount, network, ipc, uts, cgroup namespaces; the pid namespace came with the fork."""
    namespaces.unshare(
        namespaces.CLONE_NEWNS
        | namespaces.CLONE_NEWNET
        | namespaces.CLONE_NEWIPC
        | namespaces.CLONE_NEWUTS
        | namespaces.CLONE_NEWCGROUP
    )
    namespaces.set_hostname(hostname)


def open_runtime_listener(port: int) -> socket.socket:
    """The Runtime API's listening socket, on the loopback of the new network namespace.

    It is handed to the platform, which accepts on it from outside: nothing else can reach it.
    """
    network.raise_loopback()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def hand_out_socket(channel: socket.socket, identity: int) -> None:
    """A TCP socket of this network namespace, not connected to anything: the platform, outside,
    connects it to what a process of the sandbox listens on, and can reach nothing else with it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as fresh:
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        messages.send(channel, {"event": "socket", "id": identity}, [fresh.fileno()])


class ProcCovers(NamedTuple):
    """What this kernel has in /proc that tells of or acts on the host."""

    files: list[str]
    directories: list[str]
    read_only: list[str]


def find_proc_covers(proc: str) -> ProcCovers:
    """Looked up once, by the zygote, in a /proc of its own: it depends on the kernel alone."""

    def present(names: Iterable[str]) -> list[str]:
        return ["/proc/" + name for name in names if os.path.exists(f"{proc}/{name}")]

    return ProcCovers(
        present(_PROC_MASKED), present(_PROC_MASKED_DIRECTORIES), present(_PROC_READ_ONLY)
    )


def mount_proc(covers: ProcCovers) -> None:
    """A /proc of the new pid namespace, with what tells of or acts on the host covered up."""
    mount.mount("proc", "/proc", "proc", mount.MS_NOSUID | mount.MS_NODEV | mount.MS_NOEXEC)
    # A copy of a mount has its flags: two changes of these, instead of one for each path.
    mount.set_attributes("/proc", mount.MOUNT_ATTR_RDONLY)
    for path in covers.read_only:
        mount.bind(path, path)
    mount.clear_attributes("/proc", mount.MOUNT_ATTR_RDONLY)
    for path in covers.files:
        mount.bind("/dev/null", path)
    for path in covers.directories:
        mount.mount("firelet", path, "tmpfs", mount.MS_RDONLY, "size=4k")


def hide_store() -> None:
    """Takes the stores of all functions out of this mount namespace, for good. It waits for the
    kernel's readers of the mount table (RCU), so it is not left for when the function is known."""
    mount.detach(HIDDEN)


def mount_tmp(size_mib: int) -> None:
    """The only place that can be written. Its pages count in the sandbox's memory."""
    mount.mount(
        "tmp",
        "/tmp",  # noqa: S108 - the sandbox's own
        "tmpfs",
        mount.MS_NOSUID | mount.MS_NODEV,
        f"mode=1777,size={size_mib}m",
    )


def resize_tmp(size_mib: int) -> None:
    """For a function that asked for another size than embryos have."""
    mount.mount(
        None,
        "/tmp",  # noqa: S108
        None,
        mount.MS_REMOUNT | mount.MS_NOSUID | mount.MS_NODEV,
        f"size={size_mib}m",
    )


def write_passwd(uid: int, gid: int) -> None:
    """/etc/passwd and /etc/group that know the sandbox's own ids.

    Written to /tmp, bound over the files of the base root, then unlinked: the binding keeps them.
    """
    for name, text in (
        ("passwd", f"root:x:0:0::/root:/sbin/nologin\n{_USER_NAME}:x:{uid}:{gid}::/tmp:/bin/sh\n"),
        ("group", f"root:x:0:\n{_USER_NAME}:x:{gid}:\n"),
    ):
        source = "/tmp/." + name  # noqa: S108
        fd = os.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        os.write(fd, text.encode())
        os.close(fd)
        mount.bind(source, "/etc/" + name)
        mount.set_attributes("/etc/" + name, mount.MOUNT_ATTR_RDONLY)
        os.unlink(source)


def set_resource_limits(open_files: int, processes: int | None) -> None:
    """``processes`` is for the user as a whole; None where that user has many sandboxes."""
    for kind, limit in (*_LIMITS, (resource.RLIMIT_NOFILE, open_files)):
        resource.setrlimit(kind, (limit, limit))
    if processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def set_address_space(bytes_limit: int) -> None:
    """Stands in for the memory cgroup where there is none; per process, so weaker."""
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_limit, bytes_limit))


def mount_code(zygote: int, code: str) -> None:
    """The deployment package at /var/task: read-only, as the hidden store that it comes from.

    ``zygote`` is a descriptor of the zygote's mount namespace, which still has the store.
    """
    (tree,) = copies_from_store(zygote, [f"{HIDDEN}/code/{code}"])
    attach(tree, "/var/task")


def mount_layers(zygote: int, layers: list[str]) -> None:
    """The layers at /opt, read-only like the store: later ones over earlier ones.

    One layer is attached as it is. Several are the lower directories of an overlay that has no
    upper one; they are seen at another place until the kernel has copies of its own. A layer that
    is there twice counts where it is last, for an overlay takes no directory twice. Nothing is
    resolved here: the names are digests, and links inside layers are followed by the function
    alone. Source: Documentation/filesystems/overlayfs.rst, "Multiple lower layers".
    """
    paths = [f"{HIDDEN}/code/{layer}" for layer in dict.fromkeys(reversed(layers))]
    trees = copies_from_store(zygote, paths)
    if len(trees) == 1:
        attach(trees[0], "/opt")
    elif trees:
        mount.mount("firelet", "/mnt", "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "size=16k")
        lower = [f"/mnt/{number}" for number in range(len(trees))]
        for tree, place in zip(trees, lower):
            os.mkdir(place)
            attach(tree, place)
        mount.mount(
            "firelet",
            "/opt",
            "overlay",
            mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_NODEV,
            f"lowerdir={':'.join(lower)},userxattr,index=off,metacopy=off",
        )
        mount.detach("/mnt")


def mount_file_systems(
    zygote: int, file_systems: list[list[str]], uid: int, gid: int, is_rootless: bool
) -> None:
    """Directories of the host below /mnt, (source in the hidden store, target) each: shared with
    other sandboxes, and next to /tmp the only place that can be written.

    Every sandbox has a user of its own, and yet they are to work on each other's files. So what
    belongs to the directory's owner on the host is the function's here, and what the function
    makes is the owner's there, as behind an EFS access point. Rootless sandboxes all are the
    platform's user on the host, and need no map.
    """
    trees = copies_from_store(zygote, [source for source, _ in file_systems])
    if not trees:
        return
    mount.mount("firelet", "/mnt", "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=755,size=16k")
    for tree, (_, target) in zip(trees, file_systems):
        os.mkdir(target, 0o755)
        mount.make_writable(tree)
        if not is_rootless:
            _map_to_owner(tree, uid, gid)
        attach(tree, target)
    mount.set_attributes("/mnt", mount.MOUNT_ATTR_RDONLY)


def _map_to_owner(tree: int, uid: int, gid: int) -> None:
    """A file system that cannot map (as NFS) will do if its directory is open to everybody, or
    shows it as the function's already."""
    owner = os.fstat(tree)
    if (owner.st_uid, owner.st_gid) == (uid, gid):
        return
    namespace = namespaces.open_mapped_namespace(owner.st_uid, uid, owner.st_gid, gid)
    try:
        mount.map_owners(tree, namespace)
    except OSError as error:
        if error.errno != errno.EINVAL or not owner.st_mode & 0o002:
            raise
    finally:
        os.close(namespace)


def copies_from_store(zygote: int, paths: list[str]) -> list[int]:
    """Copies of mounts of the hidden store: a look into the zygote's namespace brings them along,
    and nothing else of the store."""
    if not paths:
        return []
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.setns(zygote, namespaces.CLONE_NEWNS)
    try:
        return [mount.open_copy(path) for path in paths]
    finally:
        namespaces.setns(own, namespaces.CLONE_NEWNS)
        os.close(own)


def attach(tree: int, target: str) -> None:
    """Puts one of them into this namespace."""
    mount.attach(tree, target)
    os.close(tree)


def drop_privileges(uid: int, gid: int, is_rootless: bool) -> None:
    """From root (of the host, or of the platform's user namespace) to the sandbox's own user.

    Rootless: one more user namespace, made last and without any right over the others, in which
    the platform's user is seen as ``uid``. The bounding set is empty and no_new_privs is set since
    the zygote; but a new user namespace comes with a full bounding set.
    """
    if is_rootless:
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        namespaces.map_single_user(uid, 0, gid, 0)
        process.drop_bounding_set()
    else:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    process.drop_capabilities()
    # The function runs as the same user: this keeps it from tracing or reading this init.
    process.set_dumpable(False)


def install_filter(program: bytes) -> None:
    """Last, so that as few system calls as possible have to be allowed for us alone."""
    seccomp.install_filter(program)


def become_runtime(output: int, log: int, directory: str, start: int | None = None) -> None:
    """In the runtime's process: standard streams, the log pipe as descriptor 3, and ``start`` (the
    pipe on which a preloaded runtime waits for its function) as 4. Nothing else stays open."""
    extra = [log] if start is None else [log, start]
    _take_descriptors([output, output, *extra])
    _become_process(directory)


def become_extension(output: int, report: int, directory: str) -> None:
    """In the process of an external extension: standard streams, and ``report`` as descriptor 3,
    which its own code does not get. Nothing else stays open."""
    _take_descriptors([output, output, report])
    os.set_inheritable(3, False)
    _become_process(directory)


def _take_descriptors(given: list[int]) -> None:
    """Nothing to read as descriptor 0, then these; whatever else was open is closed."""
    null = os.open("/dev/null", os.O_RDONLY)
    # Copies above the range first: a source may itself be in it.
    sources = [_duplicate_above(fd) for fd in (null, *given)]
    for target, source in enumerate(sources):
        os.dup2(source, target)
    process.close_from(len(sources))


def _become_process(directory: str) -> None:
    process.set_dumpable(True)
    _offer_to_oom_killer()
    os.umask(0o022)
    os.chdir(directory)


def _duplicate_above(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


def _offer_to_oom_killer() -> None:
    """When memory runs out the kernel shall end the function, not its init. Raising the score
    needs no right; lowering the init's would."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"500")
    finally:
        os.close(fd)
