"""The image's recipe: it ends as nobody in particular, and what it is made from is there and named exactly."""

import re
from pathlib import Path

from deploy.checks import Finding, judged


def check(recipe: Path, root: Path) -> list[Finding]:
    """One Dockerfile, built with `root` as its context."""
    text = recipe.read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    problems = []
    user = next((line.split()[1] for line in reversed(lines) if line.startswith("USER ")), "root")
    if user.partition(":")[0] in ("root", "0"):
        problems.append("it runs as root")
    bases = re.findall(r"^ARG BASE=(\S+)", text, re.MULTILINE)
    problems += [f"{base} has no tag" for base in bases if ":" not in base.rpartition("/")[2]]
    froms = [line.split()[1] for line in lines if line.startswith("FROM ")]
    if not bases or any(source != "${BASE}" for source in froms):
        problems.append("a stage starts from something else than BASE, which alone is pinned")
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    ignored = recipe.with_name(f"{recipe.name}.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    for source in copied:
        if not (root / source).exists():
            problems.append(f"{source} is not there to be copied")
        elif source not in sent:
            problems.append(f"{source} is not sent to the builder")
    if "bootstrap.py" not in text or "pip install" in text:
        problems.append("packages are installed in another way than by the lock, with hashes")
    if "--product-only" not in text:
        problems.append("it has what only checks and tests need")
    return judged(recipe.name, problems)
