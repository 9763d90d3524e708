"""Seccomp: the list of system calls that a worker may still make."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_WRITING_FLAGS = 0o3 | 0o100 | 0o1000 | 0o20000000  # O_ACCMODE, O_CREAT, O_TRUNC, O_TMPFILE without O_DIRECTORY
_FCNTL_COMMANDS = (0, 1, 2, 3, 1030)  # duplicate, descriptor flags, read status flags; never F_SETOWN or F_SETSIG

# Names in the order of the numbers. What is missing, is refused with EPERM: sockets, processes, threads, signals to
# others, writing to the file system, devices, keys, io_uring, bpf, ptrace, namespaces, limits…
_X86_64 = (
    "read=0 write=1 close=3 stat=4 fstat=5 lstat=6 poll=7 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 rt_sigaction=13 "
    "rt_sigprocmask=14 rt_sigreturn=15 pread64=17 access=21 select=23 sched_yield=24 mremap=25 madvise=28 dup=32 "
    "nanosleep=35 getitimer=36 setitimer=38 getpid=39 exit=60 uname=63 getcwd=79 readlink=89 gettimeofday=96 "
    "sysinfo=99 getuid=102 getgid=104 geteuid=107 getegid=108 getppid=110 sigaltstack=131 gettid=186 futex=202 "
    "sched_getaffinity=204 getdents64=217 restart_syscall=219 clock_gettime=228 clock_getres=229 clock_nanosleep=230 "
    "exit_group=231 newfstatat=262 readlinkat=267 faccessat=269 pselect6=270 ppoll=271 set_robust_list=273 "
    "getrandom=318 membarrier=324 statx=332 rseq=334 faccessat2=439"
)
_AARCH64 = (
    "getcwd=17 dup=23 faccessat=48 close=57 getdents64=61 lseek=62 read=63 write=64 pread64=67 pselect6=72 ppoll=73 "
    "readlinkat=78 newfstatat=79 fstat=80 exit=93 exit_group=94 futex=98 set_robust_list=99 nanosleep=101 "
    "getitimer=102 setitimer=103 clock_gettime=113 clock_getres=114 clock_nanosleep=115 sched_getaffinity=123 "
    "sched_yield=124 restart_syscall=128 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 "
    "uname=160 gettimeofday=169 getpid=172 getppid=173 getuid=174 geteuid=175 getgid=176 getegid=177 gettid=178 "
    "sysinfo=179 brk=214 munmap=215 mremap=216 mmap=222 mprotect=226 madvise=233 getrandom=278 membarrier=283 "
    "statx=291 rseq=293 faccessat2=439"
)
# machine -> audit architecture, allowed calls, and the calls whose arguments are looked at
_MACHINES = {
    "x86_64": (0xC000003E, _X86_64, {"openat": 257, "fcntl": 72}),
    "aarch64": (0xC00000B7, _AARCH64, {"openat": 56, "fcntl": 25}),
}
_CLONE3 = 435

_Instruction = tuple[int, int, int, int]


def allow_only_computing(libc: ctypes.CDLL) -> bool:
    """Refuse every system call that pure computing and reading files does not need. Needs `no_new_privs`.

    Returns:
        Whether it holds now; False on machines that are not known here, or without seccomp.
    """
    known = _MACHINES.get(os.uname().machine)
    if known is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    program = _program(*known)
    data = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(data, len(data))
    header = struct.pack("@HP", len(program), ctypes.addressof(held))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, _address(header), 0, 0) == 0)


def _program(architecture: int, allowed: str, looked_at: dict[str, int]) -> list[_Instruction]:
    numbers = [int(item.partition("=")[2]) for item in allowed.split()]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, 0x40000000),  # the x32 calls of x86-64
        (_RETURN, 0, 0, _KILL),
        *(instruction for number in numbers for instruction in _return_if(number, _ALLOW)),
        *_return_if(_CLONE3, _ERRNO | errno.ENOSYS),  # so that libc falls back to clone, which is refused
        *_openat(looked_at["openat"]),
        *_fcntl(looked_at["fcntl"]),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]


def _return_if(number: int, action: int) -> list[_Instruction]:
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]


def _openat(number: int) -> list[_Instruction]:
    return [
        (_EQUAL, 0, 5, number),
        (_LOAD, 0, 0, _ARGUMENTS + 2 * 8),
        (_AND, 0, 0, _WRITING_FLAGS),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EACCES),
    ]


def _fcntl(number: int) -> list[_Instruction]:
    checks = [instruction for command in _FCNTL_COMMANDS for instruction in _return_if(command, _ALLOW)]
    return [
        (_EQUAL, 0, len(checks) + 2, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        *checks,
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
