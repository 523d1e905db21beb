"""Bills of materials name every package of a lock, with its digests."""

import json
import re
from pathlib import Path

import pytest

from deploy.bootstrap import REQUIREMENTS
from deploy.dependencies import DEVICES, TOOLS, sbom


@pytest.mark.parametrize("device", DEVICES)
def test_a_bill_of_materials_is_the_lock(device: str, tmp_path: Path) -> None:
    if not (TOOLS / "cyclonedx_py").is_dir():
        pytest.skip("cyclonedx-bom is not here: `make sbom` installs it")
    assert sbom(device, tmp_path) == 0
    said = json.loads((tmp_path / f"tandem-{device}.cdx.json").read_text())
    assert said["bomFormat"] == "CycloneDX" and said["metadata"]["component"]["name"] == "tandem"
    lock = (REQUIREMENTS / f"{device}.lock").read_text()
    locked = {f"{name}@{version}" for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)}
    listed = {f"{one['name']}@{one['version']}": one for one in said["components"]}
    assert locked <= listed.keys() and len(locked) > 150
    assert listed.keys() - locked <= {"torch@2.13.0", "torch@2.13.0+cpu"}
    for name in locked:
        hashes = [one for place in listed[name]["externalReferences"] for one in place.get("hashes", [])]
        assert hashes and all(one["alg"] == "SHA-256" for one in hashes)
