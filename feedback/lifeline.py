"""A process that must not outlive the one that started it asks the kernel to see to that."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Have the kernel send `signal_number` to this process when its parent ends (Linux, prctl(2)).

    The kernel means the parent *thread*: call it in a process that was started from a thread that lives as long as its
    process. It survives exec and is cleared by fork.
    """
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal_number)
