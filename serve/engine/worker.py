"""What vLLM's worker is given to do beside its own: weights loaded by who gives way, in place or beside what serves."""

import logging

from serve.engine.gentle_loading import GentleLoading
from serve.engine.staging import StagedLoading

# It quotes the grammar that somebody asked for, and what was written by it. Who asked is told that it failed.
logging.getLogger("vllm.v1.structured_output.backend_guidance").setLevel(logging.CRITICAL)


class Worker(GentleLoading, StagedLoading):
    """Injected by vLLM among the bases of its own worker."""
