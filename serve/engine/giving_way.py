"""A thread of an engine's process gives way to the engines that write replies.

Only the thread can give way, and only it: a process that has once lowered its priority may not raise it again.
"""

import os
import threading

from feedback.verification import NICENESS


def give_way() -> None:
    """Linux only: elsewhere a thread has no priority of its own."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
