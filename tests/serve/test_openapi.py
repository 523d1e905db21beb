"""The openapi document is whole, and the API keeps to it whatever it is sent."""

import subprocess
import sys
from pathlib import Path

import pytest

from serve.chat.request import KNOWN_FIELDS
from tests.serve.conftest import Tandem
from tests.serve.test_roles import GUARDED, MATRIX

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_every_operation_tells_its_key_and_its_errors(quiet: Tandem) -> None:
    with quiet.client() as client:
        document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    routes = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    assert routes == MATRIX.keys()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"]
            (media_type,) = operation["responses"]["default"]["content"]
            openai_route = path.startswith(("/v1/chat", "/v1/models"))
            assert media_type == ("application/json" if openai_route else "application/problem+json")
            assert (operation.get("security") == [{"key": []}]) == (f"{method.upper()} {path}" in GUARDED)


def test_every_field_of_a_chat_that_is_taken_is_told_of(quiet: Tandem) -> None:
    with quiet.client() as client:
        document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"].keys() == KNOWN_FIELDS


@pytest.mark.slow
def test_it_survives_schemathesis(quiet: Tandem) -> None:
    """Without engines. Left out are what may rightly be answered with 503, rules that a schema cannot say, and the one
    path (`/v1/policies/rollback`) that another one (`/v1/policies/{version}`) would fill in.
    """
    key = quiet.secrets["operate"]
    run = subprocess.run(
        [
            SCHEMATHESIS, "run", f"{quiet.url}/openapi.json", "--header", f"Authorization: Bearer {key}",
            "--phases", "coverage,fuzzing", "--max-examples", "4", "--request-timeout", "20", "--seed", "1",
            "--exclude-path-regex", "events|readyz", "--exclude-checks", "positive_data_acceptance,unsupported_method",
        ],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:]
