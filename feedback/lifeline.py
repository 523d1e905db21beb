"""A process that must not outlive the one that started it asks the kernel to see to that.

`python -m feedback.lifeline COMMAND ...` becomes COMMAND, tied so: for programs that cannot ask for it themselves.
"""

import ctypes
import os
import signal
import sys

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


def tied(command: list[str]) -> list[str]:
    """The command line that runs `command` until its parent ends."""
    return [sys.executable, "-m", "feedback.lifeline", *command]


if __name__ == "__main__":
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
