"""Lines of the log: as JSON, with a request's fields by themselves, and without the message of an error."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from feedback.logs import Json

ROOT = Path(__file__).resolve().parents[2]


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "serve", "levelname": "INFO", "msg": message, "args": arguments})
    made.__dict__ |= more
    return made


def test_a_line_of_json_has_the_fields_of_a_request_beside_the_message() -> None:
    line = Json().format(record("%s %d", "/v1/models", 200, fields={"route": "/v1/models", "status": 200}))
    said = json.loads(line)
    assert "\n" not in line and said.pop("time").endswith("+00:00")
    assert said == {
        "level": "INFO", "logger": "serve", "message": "/v1/models 200", "route": "/v1/models", "status": 200,
    }  # fmt: skip


def test_an_error_is_told_by_its_kind_and_place() -> None:
    try:
        raise ValueError("marzipan")
    except ValueError:
        line = Json().format(record("it broke", exc_info=sys.exc_info()))
    assert json.loads(line)["error"] == "ValueError" and "test_an_error_is_told" in line
    assert "marzipan" not in line


def test_a_worker_of_celery_logs_so_too(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "REDIS_"))}
    environment |= {"TANDEM_HOME": str(tmp_path), "TANDEM_LOG_FORMAT": "json", "TANDEM_LOG_LEVEL": "WARNING"}
    say = (
        "from celery.signals import setup_logging; import feedback.worker, logging\n"
        "setup_logging.send(None); log = logging.getLogger('feedback.worker'); log.info('no'); log.warning('yes')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", say], check=True, env=environment, cwd=ROOT, capture_output=True, text=True
    )
    (line,) = ran.stderr.splitlines()
    assert json.loads(line)["message"] == "yes"
