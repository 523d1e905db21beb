"""Whether a policy folder may be served, found out in a process of its own that gives way to those that write replies.

It reads every byte of the weights twice. A thread of the API process would take that from the streams, and could not
give way: what it holds the others wait for. `python -m feedback.verification FOLDER DIGEST`.
"""

import os
import subprocess
import sys
from pathlib import Path

from feedback.errors import PolicyInvalid

ROOT = Path(__file__).parents[1]
# Of whatever gives way: it gets a tenth of what a competitor of usual priority gets.
NICENESS = 10


def verify(folder: Path, digest: str, timeout_s: float) -> None:
    """As `manifest.verify`. Raises PolicyInvalid, also when it takes longer than `timeout_s`."""
    command = [sys.executable, "-m", "feedback.verification", str(folder.resolve()), digest]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PolicyInvalid(f"{folder.name} could not be read within {timeout_s:g} s") from None
    if done.returncode:
        raise PolicyInvalid(done.stdout or f"{folder.name}: its verification ended with {done.returncode}")


def main(folder: str, digest: str) -> int:
    """Say what is wrong with it, if anything is."""
    from feedback import manifest

    os.nice(NICENESS)
    try:
        manifest.verify(Path(folder), digest)
    except PolicyInvalid as error:
        sys.stdout.write(error.message)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
