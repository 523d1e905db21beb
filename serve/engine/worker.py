"""What vLLM's worker is given to do beside its own: weights loaded by who gives way, in place or beside what serves."""

from serve.engine.gentle_loading import GentleLoading
from serve.engine.staging import StagedLoading


class Worker(GentleLoading, StagedLoading):
    """Injected by vLLM among the bases of its own worker."""
