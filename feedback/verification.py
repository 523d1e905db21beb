"""Whether a policy folder may be served, found out in a process of its own that gives way to those that write replies.

It reads every byte of the weights twice. A thread of the API process would take that from the streams, and could not
give way: what it holds the others wait for. `python -m feedback.verification FOLDER DIGEST`.
"""

import contextlib
import gc
import subprocess
import sys
import time
from pathlib import Path

from feedback.errors import PolicyInvalid
from feedback.giving_way import IDLE_S, give_way, resting, wait_for_idle, wait_no_longer

ROOT = Path(__file__).parents[1]


def verify(folder: Path, digest: str, timeout_s: float) -> None:
    """As `manifest.verify`. Raises PolicyInvalid, also when it takes longer than `timeout_s`."""
    command = [sys.executable, "-m", "feedback.verification", str(folder.resolve()), digest]
    began = time.monotonic()
    said = _said(command, timeout_s, waits=True)
    if said is None:
        said = _said(command, timeout_s - (time.monotonic() - began), waits=False)
    if said is None:
        raise PolicyInvalid(f"{folder.name} could not be read within {timeout_s:g} s")
    code, output = said
    if code:
        raise PolicyInvalid(output or f"{folder.name}: its verification ended with {code}")


def _said(command: list[str], timeout_s: float, *, waits: bool) -> tuple[int, str] | None:
    """Exit status and output of the command. None when it is not done in time: with `waits` also where it may not get
    more than what is left over, and that was not enough.
    """
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            if waits:
                # From its first instruction on: most of a short verification are its imports.
                wait_for_idle(process.pid)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return _ended(process, min(IDLE_S, timeout_s))
                if not wait_no_longer(process.pid):
                    return None
                timeout_s -= IDLE_S
            return _ended(process, timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()


def _ended(process: subprocess.Popen[str], timeout_s: float) -> tuple[int, str]:
    output, _ = process.communicate(timeout=timeout_s)
    return process.returncode, output


def main(folder: str, digest: str) -> int:
    """Say what is wrong with it, if anything is."""
    give_way()
    gc.disable()  # too short for garbage to matter
    try:
        with resting():
            from feedback import manifest

            manifest.verify(Path(folder), digest)
    except PolicyInvalid as error:
        sys.stdout.write(error.message)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
