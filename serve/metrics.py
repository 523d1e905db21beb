"""What Prometheus sees. No prompt, reply, key or rater is ever in a label."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SWAP_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """The metrics of one API process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.requests = counter("tandem_http_requests", "Requests answered.", ["method", "route", "status"])
        self.request_seconds = histogram(
            "tandem_http_request_seconds",
            "Time from a request to the end of its answer.",
            ["method", "route"],
            buckets=REQUEST_BUCKETS_S,
        )
        self.first_token_seconds = histogram(
            "tandem_chat_first_token_seconds",
            "Time from a streamed chat to its first token.",
            buckets=REQUEST_BUCKETS_S,
        )
        self.tokens = counter("tandem_chat_tokens", "Tokens read (prompt) and written (completion).", ["kind"])
        self.handed_over = counter(
            "tandem_chat_streams_handed_over", "Streams whose text went from the engine to the client by itself."
        )
        self.replies = counter("tandem_chat_replies", "Replies by how they ended.", ["status"])
        self.retries = counter("tandem_engine_failovers", "Chats sent to another engine before their first token.")
        self.engine_ready = gauge("tandem_engine_ready", "1 while the slot's engine takes chats.", ["slot"])
        self.engine_version = gauge(
            "tandem_engine_version", "Policy version that the slot holds; -1 for none.", ["slot"]
        )
        self.engine_in_flight = gauge("tandem_engine_in_flight", "Replies that the slot's engine is writing.", ["slot"])
        self.engine_restarts = counter(
            "tandem_engine_restarts", "Engines started again because they were dead or hung.", ["slot"]
        )
        self.queued = gauge("tandem_chat_queued", "Chats that wait for an engine.")
        self.queue_answers = gauge("tandem_queue_answers", "1 while Redis answers.")
        self.queue_tasks = gauge("tandem_queue_tasks", "Tasks that wait in Redis for a worker.", ["queue"])
        self.promotions = counter("tandem_promotions", "Attempts to change what serves.", ["kind", "outcome"])
        for kind in ("promote", "rollback"):
            for outcome in ("succeeded", "failed"):
                self.promotions.labels(kind, outcome)  # shown as 0: the first one is an increase
        self.swap_seconds = histogram("tandem_swap_seconds", "Time that a promotion took.", buckets=SWAP_BUCKETS_S)
        self.swap_step_seconds = histogram(
            "tandem_swap_step_seconds",
            "Time that a step of a promotion took: verify (files), stage (weights loaded beside those that serve), "
            "drain, change (weights and their proof), hosts (waiting for others), commit.",
            ["step"],
            buckets=SWAP_BUCKETS_S,
        )
        self.votes = gauge("tandem_votes", "Votes in the record.", ["state"])
        self.oldest_uncounted_vote_age_seconds = gauge(
            "tandem_oldest_uncounted_vote_age_seconds", "Age of the oldest vote not counted yet."
        )
        self.iteration_active = gauge("tandem_iteration_active", "1 while an iteration is queued or running.")
        self.iteration_progress = gauge(
            "tandem_iteration_progress", "How far the iteration is within its stage, from 0 to 1.", ["stage"]
        )
        self.home_free_bytes = gauge(
            "tandem_home_free_bytes", "Bytes free for this user where the home is, or its policies if fewer."
        )
