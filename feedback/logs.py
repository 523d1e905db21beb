"""Logging of every process: one line an event, to standard error, never a prompt, a reply or a key."""

import logging
import traceback
from datetime import UTC, datetime

import orjson

from feedback.settings import Settings

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CHATTY = ("alembic", "httpx", "aiohttp.access", "transformers")


def configure(settings: Settings) -> None:
    """Set up logging at a process's entry, as `log_level` and `log_format` say."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if settings.log_format == "json" else logging.Formatter(PLAIN))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class Json(logging.Formatter):
    """A line of JSON: `time` (UTC), `level`, `logger`, `message`, and what a record has as `fields` beside them."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        kind, error, trace = record.exc_info or (None, None, None)
        if kind is not None and error is not None:
            # Its kind and place; its message may quote what somebody wrote.
            frames = traceback.extract_tb(trace)
            said |= {"error": kind.__name__, "at": [f"{one.filename}:{one.lineno} {one.name}" for one in frames]}
        return orjson.dumps(said, default=str).decode()
