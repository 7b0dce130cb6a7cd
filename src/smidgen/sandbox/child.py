"""The child process of `smidgen.sandbox`: gives up what it does not need, then runs the program that it is told.

Run as a file, by itself: it imports nothing of smidgen.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys
import traceback
from typing import Any

_NEW_USER, _NEW_NET, _NEW_IPC, _THREAD = 0x10000000, 0x40000000, 0x08000000, 0x00010000
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_REFUSED, _UNKNOWN = 1, 38  # EPERM, ENOSYS

_CALLS = {  # system calls that are refused: their numbers on x86-64 and on 64-bit Arm
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "setrlimit": (160, 164),
    "prlimit64": (302, 261),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "io_uring_setup": (425, 425),
    "shmget": (29, 194),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "reboot": (169, 142),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

# What Landlock calls writing a file, removing and making anything, and from its second and third version on
# moving to another folder and cutting short.
_WRITING = (1 << 1) | sum(1 << bit for bit in range(4, 13))
_LATER = {2: 1 << 13, 3: 1 << 14}


def limit(limits: dict[str, Any]) -> bool:
    """Set the kernel's limits; false where it has none."""
    try:
        import resource
    except ImportError:
        return False
    wanted = {
        "RLIMIT_CPU": limits["processor_seconds"],
        "RLIMIT_AS": limits["memory_bytes"],
        "RLIMIT_FSIZE": limits["file_bytes"],
        "RLIMIT_NOFILE": limits["open_files"],
        "RLIMIT_CORE": 0,
    }
    for name, most in wanted.items():
        # At the first limit of time the kernel says why it ends the process; at the second it just ends it.
        last = most + 1 if name == "RLIMIT_CPU" else most
        try:
            resource.setrlimit(getattr(resource, name), (most, last))
        except (AttributeError, ValueError, OSError):
            return False
    return True


def forbid_processes() -> str:
    """Let the user's limit of processes forbid more; it does not hold for root."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    except (ImportError, AttributeError, ValueError, OSError):
        return ""
    return "limit" if os.geteuid() else ""


def leave_network(library: Any) -> bool:
    """Move to a network without any connection, as a user without rights over the old one."""
    return any(library.unshare(flags) == 0 for flags in (_NEW_USER | _NEW_NET | _NEW_IPC, _NEW_USER | _NEW_NET))


def confine_writing(library: Any, folder: str) -> bool:
    """Let files be written in a folder only, and to nowhere."""
    version = library.syscall(444, None, 0, 1)
    if version < 1:
        return False
    handled = _WRITING | sum(bit for since, bit in _LATER.items() if version >= since)
    rules = library.syscall(444, struct.pack("Q", handled), 8, 0)
    if rules < 0:
        return False
    for path, allowed in ((folder, handled), (os.devnull, handled & ((1 << 1) | (1 << 14)))):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        library.syscall(445, rules, 1, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    return bool(library.syscall(446, rules, 0) == 0)


def filter_calls(library: Any) -> bool:
    """Refuse system calls that start processes, reach others, open connections or undo the limits."""
    if platform.machine() not in _ARCHITECTURES:
        return False
    column, architecture = _ARCHITECTURES[platform.machine()]
    refused = [numbers[column] for numbers in _CALLS.values() if numbers[column] is not None]
    code = _filter(architecture, [number for number in refused if number is not None], column)
    room = ctypes.create_string_buffer(code)
    # The structure sock_fprog: the count of instructions and where they stand.
    program = struct.pack("H6xQ", len(code) // 8, ctypes.addressof(room))
    return bool(library.prctl(_SECCOMP, _FILTER, program, 0, 0) == 0)


def _filter(architecture: int, refused: list[int], column: int) -> bytes:
    """Return the filter's instructions: operation, jump where it holds, jump where not, operand."""
    load, equal, above, has, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown = 0x7FFF0000, 0x00050000 | _REFUSED, 0x00050000 | _UNKNOWN
    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, refuse), (load, 0, 0, 0)]
    code += [(above, 0, 1, 0x40000000), (answer, 0, 0, refuse)]  # the second set of numbers that x86-64 has
    for number in refused:
        code += [(equal, 0, 1, number), (answer, 0, 0, refuse)]
    code += [(equal, 0, 1, _CLONE3[column]), (answer, 0, 0, unknown)]  # the C library then takes the older call
    code += [(equal, 0, 3, _CLONE[column]), (load, 0, 0, 16), (has, 1, 0, _THREAD), (answer, 0, 0, refuse)]
    code += [(answer, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *each) for each in code)


def without_sockets() -> None:
    """Take sockets out of Python where nothing better can be had."""
    import socket

    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise PermissionError("no network here")

    for name in ("socket", "create_connection", "create_server", "socketpair", "fromfd", "getaddrinfo"):
        setattr(socket, name, refuse)


def held(request: dict[str, Any]) -> dict[str, Any]:
    """Give up what the program shall not have; return what was given up."""
    found: dict[str, Any] = {"limits": limit(request["limits"]), "processes": "", "network": "", "files": ""}
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        apart = leave_network(library)
        library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        found["files"] = "Landlock" if confine_writing(library, request["folder"]) else ""
        found["processes"] = forbid_processes()
        filtered = filter_calls(library)
        if filtered:
            found["processes"] = "seccomp"
        found["network"] = {
            (True, True): "seccomp and a namespace of its own",
            (True, False): "seccomp",
            (False, True): "namespace",
        }.get((filtered, apart), "")
    if not found["network"]:
        without_sockets()
        found["network"] = "Python only"
    return found


def main() -> None:
    """Run the program that the parent sends, and report how it ended."""
    request = json.loads(sys.stdin.buffer.read())
    report = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)

    def tell(**facts: Any) -> None:
        os.write(report, f"\n{request['token']}{json.dumps(facts)}\n".encode())

    source = request["program"]
    tell(held=held(request))
    try:
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
    except BaseException as error:
        lines = traceback.format_exception_only(error)
        tell(error=lines[-1].strip()[:500] if lines else type(error).__name__)
        os._exit(1)
    tell(passed=True)
    os._exit(0)


if __name__ == "__main__":
    main()
