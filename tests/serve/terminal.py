"""The `tandem` command against a running Tandem, for tests: as a program runs it, and at a real terminal."""

import codecs
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.serve.conftest import ROOT, Tandem

PATIENCE_S = 120.0


def environment(tandem: Tandem) -> dict[str, str]:
    return os.environ | {
        "TANDEM_HOME": str(tandem.settings.home),
        "TANDEM_URL": tandem.url,
        "TANDEM_KEY": tandem.secrets["operate"],
        "TERM": "xterm",
    }


def run(tandem: Tandem, *arguments: str, prompts: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy.command", *arguments],
        input=prompts, env=environment(tandem), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


class Terminal:
    """A person's terminal: what it shows, in order, and keys to press."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""
        # What was read may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def wait_for(self, text: str) -> None:
        """Read on until `text` is shown, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self._shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self._shown!r}"
            if select.select([self._descriptor], [], [], 0.5)[0]:
                self._shown += self._decoder.decode(os.read(self._descriptor, 65536))
        self._shown = self._shown.partition(text)[2]

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())


@contextmanager
def at_terminal(tandem: Tandem, *arguments: str) -> Iterator[Terminal]:
    """`tandem` in a terminal; it must end well by itself."""
    controlling, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.command", *arguments],
        stdin=its, stdout=its, stderr=its, env=environment(tandem), cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    try:
        yield Terminal(controlling)
        assert process.wait(timeout=PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controlling)
