"""What Prometheus sees. No prompt, reply, key or rater is ever in a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SWAP_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """The metrics of one API process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tandem_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "tandem_http_request_seconds",
            "Time from a request to the end of its answer.",
            ["method", "route"],
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "tandem_chat_first_token_seconds",
            "Time from a streamed chat to its first token.",
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self.tokens = Counter(
            "tandem_chat_tokens", "Tokens read (prompt) and written (completion).", ["kind"], registry=self.registry
        )
        self.handed_over = Counter(
            "tandem_chat_streams_handed_over",
            "Streams whose text went from the engine to the client by itself.",
            registry=self.registry,
        )
        self.replies = Counter("tandem_chat_replies", "Replies by how they ended.", ["status"], registry=self.registry)
        self.retries = Counter(
            "tandem_engine_failovers", "Chats sent to another engine before their first token.", registry=self.registry
        )
        self.engine_ready = Gauge(
            "tandem_engine_ready", "1 while the slot's engine takes chats.", ["slot"], registry=self.registry
        )
        self.engine_version = Gauge(
            "tandem_engine_version",
            "Policy version that the slot holds; -1 for none.",
            ["slot"],
            registry=self.registry,
        )
        self.engine_in_flight = Gauge(
            "tandem_engine_in_flight", "Replies that the slot's engine is writing.", ["slot"], registry=self.registry
        )
        self.engine_restarts = Counter(
            "tandem_engine_restarts",
            "Engines started again because they were dead or hung.",
            ["slot"],
            registry=self.registry,
        )
        self.queued = Gauge("tandem_chat_queued", "Chats that wait for an engine.", registry=self.registry)
        self.queue_answers = Gauge("tandem_queue_answers", "1 while Redis answers.", registry=self.registry)
        self.queue_tasks = Gauge(
            "tandem_queue_tasks", "Tasks that wait in Redis for a worker.", ["queue"], registry=self.registry
        )
        self.promotions = Counter(
            "tandem_promotions", "Attempts to change what serves.", ["kind", "outcome"], registry=self.registry
        )
        for kind in ("promote", "rollback"):
            for outcome in ("succeeded", "failed"):
                self.promotions.labels(kind, outcome)  # shown as 0: the first one is an increase
        self.swap_seconds = Histogram(
            "tandem_swap_seconds", "Time that a promotion took.", buckets=SWAP_BUCKETS_S, registry=self.registry
        )
        self.swap_step_seconds = Histogram(
            "tandem_swap_step_seconds",
            "Time that a step of a promotion took: verify (files), stage (weights loaded beside those that serve), "
            "drain, change (weights and their proof), hosts (waiting for others), commit.",
            ["step"],
            buckets=SWAP_BUCKETS_S,
            registry=self.registry,
        )
        self.votes = Gauge("tandem_votes", "Votes in the record.", ["state"], registry=self.registry)
        self.oldest_uncounted_vote_age_seconds = Gauge(
            "tandem_oldest_uncounted_vote_age_seconds",
            "Age of the oldest vote not counted yet.",
            registry=self.registry,
        )
        self.iteration_active = Gauge(
            "tandem_iteration_active", "1 while an iteration is queued or running.", registry=self.registry
        )
        self.iteration_progress = Gauge(
            "tandem_iteration_progress",
            "How far the iteration is within its stage, from 0 to 1.",
            ["stage"],
            registry=self.registry,
        )
        self.home_free_bytes = Gauge(
            "tandem_home_free_bytes",
            "Bytes free for this user where the home is, or its policies if fewer.",
            registry=self.registry,
        )
