"""Logging of every process: one line an event, to standard error, never a prompt, a reply or a key."""

import logging
import os


def configure() -> None:
    """Set up logging at a process's entry. `TANDEM_LOG_LEVEL` overrides the level (INFO)."""
    level = os.environ.get("TANDEM_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "httpx", "aiohttp.access", "transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
