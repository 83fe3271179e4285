"""One operation on the real kernel, counted from inside: a page of machine code that a Python process calls through ctypes.

Python's own work between two system calls takes page faults, and an access that the kernel refuses would end the process. So
the accesses, the system calls and the count of their minor faults are made by :data:`CODE`, which no compiler has to build, and
whose signal handler turns a refused access into a result. x86-64 Linux only. Standard library only: the worker imports it.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import struct

READ, WRITE = -1, -2
"""Sweeps, where a system call would have its number."""

CODE = bytes.fromhex(
    # perform(block): rbx = block
    "53 4154 4889fb"  # push rbx; push r12; mov rbx, rdi
    "e849000000 e844000000"  # call usage, twice: the first touches the pages that the counting itself needs
    "4c8ba390000000"  # mov r12, [rbx+144]: minor faults so far
    "488b03 4885c0 7846"  # mov rax, [rbx]; test rax, rax; js sweep
    "488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30 0f05"  # rdi, rsi, rdx, r10, r8, r9 = [rbx+8 ...]; syscall
    # finish: result in rax
    "48894338 e812000000"  # mov [rbx+56], rax; call usage
    "488b8390000000 4c29e0 48894340"  # [rbx+64] = minor faults since
    "415c 5b c3"  # pop r12; pop rbx; ret
    # usage: getrusage(RUSAGE_THREAD, block + 80)
    "b862000000 bf01000000 488d7350 0f05 c3"
    # sweep: rsi = first address, rcx = value
    "488b7308 488b4b20 4883f8ff 7517"  # READ goes on below, WRITE jumps to writes
    # reads: until rsi reaches [rbx+16], step [rbx+24]
    "483b7310 731f 0fb616 c684130001000001 48037318 ebe9"  # seen[byte at rsi] = 1
    # writes:
    "483b7310 7308 880e 48037318 ebf2"  # byte at rsi = cl
    # swept: result 0
    "31c0 eb9d"
    # handler(signal, info, ucontext): a fault between reads and swept ends the sweep with -signal
    "488b82a8000000 488d0dc9ffffff 4839c8 7228"  # rax = the faulting RIP; below reads: strange
    "488d0de2ffffff 4839c8 731c"  # from swept on: strange
    "4863ff 48f7df 4889ba90000000"  # the interrupted rax = -signal
    "488d0d6affffff 48898aa8000000 c3"  # and its RIP = finish
    # strange: not an access of the sweep; rt_sigaction(signal, zeros, 0, 8), so that it has its default effect
    "b80d000000 4883ec28 48c7042400000000 48c744240800000000 48c744241000000000 48c744241800000000"
    "4863ff 4889e6 31d2 41ba08000000 0f05 4883c428 c3"
)
"""Position-independent; the rel32 operands above are right only as long as nothing is inserted."""
_HANDLER = 0x9C
_SEEN = 256
_SPARE = 1024

libc = ctypes.CDLL(None, use_errno=True)


class _Sigaction(ctypes.Structure):
    """struct sigaction as glibc and musl have it on x86-64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Refused(Exception):
    """The process may not have executable memory of its own making."""


def address_of(memory: mmap.mmap) -> int:
    """Where an anonymous mapping lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Native:
    """The code, loaded and with its signal handler in place."""

    def __init__(self) -> None:
        """Raises Refused."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._memory[: len(CODE)] = CODE
        self._address = address_of(self._memory)
        protect = libc.mprotect(ctypes.c_void_p(self._address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC)
        if protect:
            raise Refused
        action = _Sigaction(self._address + _HANDLER, (ctypes.c_ulong * 16)(), 4, None)  # SA_SIGINFO
        for number in (signal.SIGSEGV, signal.SIGBUS):
            libc.sigaction(int(number), ctypes.byref(action), None)
        self.perform = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._address)


class Block:
    """The page through which one thread asks for operations; each thread has its own."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.address = address_of(self._memory)

    def call(self, number: int, *arguments: int) -> tuple[int, int]:
        """A system call: its result (below 0: minus the error) and its minor faults."""
        values = [argument & 0xFFFF_FFFF_FFFF_FFFF for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
        struct.pack_into("<q6Q", self._memory, 0, number, *values)
        self._native.perform(self.address)
        result, faults = struct.unpack_from("<qq", self._memory, 56)
        return result, faults

    def vector(self, start: int, length: int) -> int:
        """The address of a struct iovec that says so."""
        struct.pack_into("<QQ", self._memory, _SPARE, start, length)
        return self.address + _SPARE

    def sweep(self, kind: int, start: int, end: int, stride: int, value: int = 0) -> tuple[int | tuple[int, ...], int]:
        """READ or WRITE a byte every ``stride``: the values read or 0, or minus the signal of a refused access; minor faults."""
        self._memory[_SEEN : _SEEN + 256] = bytes(256)
        refused, faults = self.call(kind, start, end, stride, value)
        if refused or kind == WRITE:
            return refused, faults
        seen = self._memory[_SEEN : _SEEN + 256]
        return tuple(number for number in range(256) if seen[number]), faults
