"""A process that must not outlive the one that started it asks the kernel to see to that.

`python -m feedback.lifeline PARENT COMMAND ...` becomes COMMAND, tied so to the process of that number: for programs
that cannot ask for it themselves, or take long until they do.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Have the kernel send `signal_number` to this process when its parent ends (Linux, prctl(2)).

    `parent` is the number of the process that started this one, which may be gone by now: then it ends at once. Without
    it whoever is the parent now is meant.

    The kernel means the parent *thread*: call it in a process that was started from a thread that lives as long as its
    process. It survives exec and is cleared by fork.
    """
    parent = os.getppid() if parent is None else parent
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal_number)


def tied(command: list[str]) -> list[str]:
    """The command line by which this process starts `command`, to run until this process ends."""
    return [sys.executable, "-m", "feedback.lifeline", str(os.getpid()), *command]


def tie_forks() -> None:
    """Have what this process forks from now on end with it, and what that forks with that, and so on."""
    forking = os.getpid()

    def note() -> None:
        nonlocal forking
        forking = os.getpid()

    os.register_at_fork(before=note, after_in_child=lambda: die_with_parent(parent=forking))


if __name__ == "__main__":
    die_with_parent(parent=int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
