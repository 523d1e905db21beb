"""Makes `.venv` from the locks of this machine, with the standard library alone.

Running it again costs a few milliseconds while the locks are those the environment was made from.
An environment that was not finished is made again from nothing, so an interrupted run needs no care.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "deploy" / "requirements"
OLDEST_PYTHON = (3, 11)
# The modules that a stack's processes run.
STARTED = [
    "serve.process",
    "feedback.worker",
    "feedback.scheduler",
    "learner.worker",
    "learner.scorer",
    "deploy.command",
]
# What is installed beside them: torch's CPU build, what installs, and this project. Older Pythons bring setuptools.
NOT_OF_THE_LOCKS = {"torch", "pip", "setuptools", "uv", "tandem"}
# Asked only when the sources that pip is set up with have no CPU build of torch.
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class BootstrapError(Exception):
    """What stands in the way, in one line with what to do about it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the environment from the lock.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument(
        "--product-only", action="store_true", help="leave out what only checks, tests and benchmarks need"
    )
    options = parser.parse_args()
    guarding = REQUIREMENTS / "product.in"
    try:
        # NFS locks only what is open for writing; whoever cannot write here changes nothing.
        with guarding.open("r+" if os.access(guarding, os.W_OK) else "r") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # two makes at once: the second finds the work done
            ensure_environment(options.venv.resolve(), chosen_device(), product_only=options.product_only)
    except BootstrapError as problem:
        print(f"bootstrap: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bootstrap: interrupted; run it again to start over", file=sys.stderr)
        return 130
    return 0


def ensure_environment(venv: Path, device: str, product_only: bool = False) -> None:
    """Leave `venv` holding exactly what the locks for `device` say, and this project."""
    stamp = venv / "tandem-lock.json"
    locks = locks_for(device, product_only)
    wanted = {
        "device": device,
        "python": ".".join(map(str, sys.version_info[:3])),
        "locks": locks,
        "digest": locked_digest(locks),
        "root": str(ROOT),
    }
    found = read_stamp(stamp)
    if found == wanted:
        return
    require_tools(device)
    started = time.monotonic()
    same_base = (
        found is not None
        and all(found[name] == wanted[name] for name in ("device", "python", "root"))
        # Nothing is uninstalled.
        and installed_packages(venv) <= locked_packages(locks).keys() | NOT_OF_THE_LOCKS
    )
    stamp.unlink(missing_ok=True)
    if not same_base:
        make_bare_environment(venv)
    install_locked(venv, device, locks)
    install_project(venv)
    if sys.dont_write_bytecode:
        write_bytecode(venv, device)
    unfinished = stamp.with_suffix(".part")
    unfinished.write_text(json.dumps(wanted, indent=2) + "\n")
    unfinished.replace(stamp)
    say(f"environment ready in {time.monotonic() - started:.0f} s ({venv}, {device})")


def read_stamp(stamp: Path) -> dict[str, Any] | None:
    """What an environment was made from; None for one not finished, or of which a power failure left nothing."""
    try:
        said: dict[str, Any] = json.loads(stamp.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return said


def chosen_device() -> str:
    """`cuda` where nvidia-smi lists a GPU, else `cpu`; TANDEM_DEVICE overrides."""
    asked = os.environ.get("TANDEM_DEVICE", "")
    if asked in ("cpu", "cuda"):
        return asked
    if asked:
        raise BootstrapError(f"TANDEM_DEVICE is {asked!r}; it must be cpu or cuda")
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return "cpu"
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False)
    return "cuda" if listed.returncode == 0 and "GPU " in listed.stdout else "cpu"


def locks_for(device: str, product_only: bool) -> list[str]:
    return [f"{device}.lock"] if product_only else [f"{device}.lock", "development.lock"]


def locked_digest(locks: list[str]) -> str:
    digest = hashlib.sha256()
    names = [*locks, "installer.lock", "torch-cpu.txt"]
    for path in [*(REQUIREMENTS / name for name in names), ROOT / "pyproject.toml"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def locked_packages(locks: list[str]) -> dict[str, set[str]]:
    """What the locks name, and in which versions: lines for other platforms are among them."""
    named: dict[str, set[str]] = {}
    for lock in locks:
        text = (REQUIREMENTS / lock).read_text()
        for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE):
            named.setdefault(canonical(name), set()).add(version)
    return named


def installed_packages(venv: Path) -> set[str]:
    return {canonical(path.name.split("-")[0]) for path in venv.glob("lib/python*/site-packages/*.dist-info")}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def require_tools(device: str) -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise BootstrapError(f"Python {sys.version.split()[0]} is too old; install Python 3.11 or newer")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        raise BootstrapError("this Python has no venv module; install it (Debian: apt install python3-venv)") from None
    # On a CPU nothing is compiled: every package comes built, and the engines run eagerly.
    if device == "cuda" and find_compiler() is None:
        raise BootstrapError(
            "no C compiler found (tried CC, cc, gcc, clang), which Triton needs on a GPU; "
            "install one (Debian: apt install gcc), or use TANDEM_DEVICE=cpu"
        )


def find_compiler() -> str | None:
    names = [os.environ.get("CC"), "cc", "gcc", "clang"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def make_bare_environment(venv: Path) -> None:
    say(f"making {venv} with Python {sys.version.split()[0]}")
    run([sys.executable, "-m", "venv", "--clear", str(venv)])


def install_locked(venv: Path, device: str, locks: list[str]) -> None:
    python = str(venv / "bin" / "python")
    if device == "cpu":
        install_cpu_torch(python)
    say("installing what the locks name")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS / "installer.lock")])
    named = [part for lock in locks for part in ("-r", str(REQUIREMENTS / lock))]
    uv = [str(venv / "bin" / "uv"), "pip", "install", "--python", python, *index_options(python), *trust_options()]
    run([*uv, "--no-deps", "--require-hashes", *named])


def install_cpu_torch(python: str) -> None:
    """Take the CPU build from wherever pip is set up to look, else from PyTorch's own index."""
    say("installing torch (CPU build)")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    wanted = ["-r", str(REQUIREMENTS / "torch-cpu.txt")]
    first = subprocess.run([*pip, *wanted], stderr=subprocess.PIPE, text=True, check=False)
    if first.returncode == 0:
        return
    # The latter is what pip says where it is set up with a constraint for torch.
    if not any(said in first.stderr for said in ("No matching distribution", "ResolutionImpossible")):
        raise BootstrapError(f"pip could not install torch:\n{first.stderr.strip()}")
    say(f"not among pip's sources; asking {PYTORCH_CPU_INDEX}")
    try:
        run([*pip, "--retries", "2", "--index-url", PYTORCH_CPU_INDEX, *wanted])
    except BootstrapError:
        raise BootstrapError(
            f"no CPU build of torch for Python {sys.version.split()[0]} is to be had, neither from pip's sources nor "
            f"from {PYTORCH_CPU_INDEX}; try again, or with another Python: make PYTHON=python3.11"
        ) from None


def index_options(python: str) -> list[str]:
    """uv reads no pip configuration: hand it the index that pip was told to use, if any."""
    asked = subprocess.run(
        [python, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    index = os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    return ["--default-index", index] if index else []


def trust_options() -> list[str]:
    """uv trusts the certificates that it brings; have it trust this machine's, where there are any, as pip does."""
    store = ssl.get_default_verify_paths()
    return ["--system-certs"] if store.cafile or store.capath else []


def install_project(venv: Path) -> None:
    """Editable, so that `.venv/bin/tandem` runs this very checkout."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    run([*pip, "--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT)])


def write_bytecode(venv: Path, device: str) -> None:
    """Of what every start imports: with PYTHONDONTWRITEBYTECODE set, each process would compile it anew for seconds."""
    say("compiling what every start imports")
    # An engine's imports on a GPU would look for one.
    engine = "import_module('serve.engine.server').import_server('cpu')" if device == "cpu" else ""
    code = f"from importlib import import_module\nfor name in {STARTED}: import_module(name)\n{engine}"
    run(["env", "-u", "PYTHONDONTWRITEBYTECODE", str(venv / "bin" / "python"), "-c", code])


def run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise BootstrapError(f"this step failed with exit code {done.returncode}: {' '.join(command)}")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
