"""The queue: Celery over Redis. What is sent here is a hint; the record says what is to be done.

A task that is lost is sent again by the scheduler, one that comes twice finds nothing left to do.
"""

import logging
import threading
from collections import deque
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_process_init
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES

from feedback import logs, temporary_folder, tracing
from feedback.lifeline import die_with_parent
from feedback.settings import Settings

log = logging.getLogger(__name__)

VOTES, LEARNER = "votes", "learner"
COUNT_VOTES = "feedback.count_votes"
RUN_ITERATION = "learner.run_iteration"
SOCKET_TIMEOUT_S = 2.0
SENDING_PATIENCE_S = 0.3
HINT_INTERVAL_S = 0.25
# Redis that took nothing is left alone for this long.
PAUSE_S = 5.0
MOST_LINKS = 32

# By name alone: to import it takes as long as kombu's own, and who never sends does without.
TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "feedback.queue_reading:Transport"


def make_celery(settings: Settings) -> Celery:
    """The Celery application of a worker or of a process that sends to one."""
    # A worker's own way of logging would not be ours.
    setup_logging.connect(lambda **_: logs.configure(settings), weak=False, dispatch_uid="tandem")
    app = Celery("tandem", broker=_checking_certificates(settings.broker_url), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_queues=[
            # Hints to count are taken and forgotten. A worker whose acknowledgement Redis did not take, because it
            # stood still just then, would wait for ever to have it taken before it takes another task.
            Queue(VOTES, Exchange(VOTES), routing_key=VOTES, no_ack=True),
            Queue(LEARNER, Exchange(LEARNER), routing_key=LEARNER),
        ],
        task_routes={COUNT_VOTES: {"queue": VOTES}, RUN_ITERATION: {"queue": LEARNER}},
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "visibility_timeout": 60,
            # Without these two a task of a killed worker waits minutes for another one.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
    )
    return app


def _checking_certificates(redis_url: str) -> str:
    """Of `rediss://...` kombu takes any certificate unless it is told otherwise; redis-py takes none that it cannot
    check."""
    address = urlsplit(redis_url)
    if address.scheme != "rediss":
        return redis_url
    said = {"ssl_cert_reqs": "required"} | dict(parse_qsl(address.query))
    return address._replace(query=urlencode(said)).geturl()


def make_sender(settings: Settings) -> Celery:
    """The same for a process that sends and takes nothing: where Redis is not there it gives up at once, since the
    record knows what is to be sent again. As it comes it would try for six seconds, each time."""
    app = make_celery(settings)
    app.conf.broker_transport_options |= {
        "connect_retries_timeout": SENDING_PATIENCE_S,
        "interval_start": SENDING_PATIENCE_S / 2,
        "interval_step": 0,
    }
    return app


@worker_init.connect
def _keep_what_is_temporary_apart(**_: Any) -> None:
    temporary_folder.take()


@worker_process_init.connect
def _end_with_the_worker(**_: Any) -> None:
    die_with_parent()


def send(celery: Celery, task: str, *args: Any) -> bool:
    """Send a task now or not at all. False when Redis does not answer, is full or only reads, or cannot be asked as its
    address says: the scheduler will send it again."""
    try:
        celery.send_task(task, args=args, retry=False)
    except (OperationalError, OSError, TypeError, ValueError) as error:  # The last two for an option that there is not.
        log.warning("the queue takes nothing (%s); the scheduler will try again", str(error) or type(error).__name__)
        return False
    return True


class VoteHints:
    """Tells the workers that there are votes to count, from a thread of its own.

    `notify` only sets a flag, so a slow or dead Redis never holds up the caller, and votes that come together are
    announced by one task.
    """

    def __init__(self, settings: Settings) -> None:
        self._celery = make_sender(settings)
        self._wanted = threading.Event()
        # Of the votes that the next task announces, the newest ones: where each was cast, in the traces.
        self._links: deque[str] = deque(maxlen=MOST_LINKS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vote-hints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notify(self) -> None:
        """Say that a vote has become durable. Returns at once."""
        link = tracing.here()
        if link is not None:
            self._links.append(link)
        self._wanted.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=2 * SOCKET_TIMEOUT_S)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._stopping.is_set():
                return
            self._wanted.clear()
            sent = send(self._celery, COUNT_VOTES, [self._links.popleft() for _ in range(len(self._links))])
            # Votes that arrive meanwhile share the next task.
            self._stopping.wait(HINT_INTERVAL_S if sent else PAUSE_S)


def enqueue_iteration(settings: Settings, iteration_id: str) -> bool:
    """Hand an iteration to the learner. False when Redis does not answer: the scheduler will do it."""
    return send(make_sender(settings), RUN_ITERATION, iteration_id)
