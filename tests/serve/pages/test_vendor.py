"""The libraries of the pages are what they say they are."""

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[3] / "serve" / "pages" / "vendor"


def test_every_library_is_the_published_file() -> None:
    expected = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert found == expected


def test_every_library_has_a_row_and_a_licence() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (\S+) (\S+) \|", (VENDOR / "README.md").read_text(), re.MULTILINE)
    assert {file for file, _, _ in rows} == {path.name for path in VENDOR.glob("*.js")}
    licences = (VENDOR / "licences.txt").read_text().lower()
    for _, package, version in rows:
        assert f"== {package} {version}" in licences
