"""The SHA256SUMS file beside a policy's files, in the format of `sha256sum`."""

import hashlib
from pathlib import Path

SUMS_NAME = "SHA256SUMS"


def write_digests(folder: Path) -> None:
    """Write the digests of all files in the folder, sorted by name."""
    lines = [f"{digest}  {name}\n" for name, digest in file_digests(folder).items()]
    (folder / SUMS_NAME).write_text("".join(lines))


def file_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in the folder, by name; the digest file itself is left out."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS_NAME)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def read_digests(folder: Path) -> dict[str, str]:
    """The digests that the folder's digest file promises, by file name."""
    lines = (folder / SUMS_NAME).read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
