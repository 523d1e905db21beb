"""How workers read the queue: kombu's way over Redis, which would end the worker with a message that is none."""

import base64
import logging
import time
from json import JSONDecodeError
from queue import Empty
from typing import Any

import orjson
from kombu.transport import redis
from redis.exceptions import ResponseError

from feedback.queue import COUNT_VOTES, LEARNER, PAUSE_S, RUN_ITERATION, VOTES

log = logging.getLogger(__name__)

TASKS = (COUNT_VOTES, RUN_ITERATION)
AT_ONCE = {"retries": 0, "timelimit": [None, None], "eta": None, "expires": None}


class QoS(redis.QoS):
    _not_before = 0.0

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """Bring back what a killed worker had taken. It is asked for every second, and what a full Redis says to it
        kombu would write into the log with 50 lines of traceback."""
        if time.monotonic() < self._not_before:
            return
        try:
            super().restore_visible(*args, **options)
        except ResponseError as error:
            self._not_before = time.monotonic() + PAUSE_S
            log.warning("the queue takes nothing (%s)", error)


class Channel(redis.Channel):
    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            log.error("what stood in the queue is no message, and is dropped")
            raise Empty from error


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        # Before Celery has it: what fails within may leave its pool taken for good.
        if queue in (VOTES, LEARNER) and not is_ours(message):
            log.error("a message in the queue %s is none of ours, and is dropped", queue)
            return
        super()._deliver(message, queue)


def is_ours(message: Any) -> bool:
    """Whether it has the form in which our processes send tasks."""
    try:
        headers, properties = message["headers"], message["properties"]
        args, kwargs, _ = orjson.loads(base64.b64decode(message["body"]))
        forms = message["content-type"], message["content-encoding"], properties["body_encoding"]
        return (
            headers["task"] in TASKS
            and isinstance(headers["id"], str)
            and not headers.get("stamped_headers")
            and all(headers[name] == value for name, value in AT_ONCE.items())
            and forms == ("application/json", "utf-8", "base64")
            and isinstance(properties["delivery_info"], dict)
            and isinstance(properties["priority"], int)
            and isinstance(args, list)
            and kwargs == {}
        )
    except (ValueError, TypeError, LookupError):
        return False
