"""In the engine's process: how many tokens a step takes, so that new prompts do not hold up the replies being written.

vLLM puts all the prompts that wait into the next step, up to thousands of tokens, and every reply waits for that step.
Where the step takes as long as its tokens are many, on a CPU, a prompt is therefore read in pieces while others write;
with nobody to wait for it, all at once.
"""

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler as VllmScheduler

# A step of one token takes about as long as its weights take to be read, and 24 tokens more take that long again.
PROMPT_TOKENS = 32


def most_tokens(writing: int, limit: int) -> int:
    """Of a step in which `writing` replies get a token: it takes about twice as long as one without prompts."""
    return min(limit, 2 * writing + PROMPT_TOKENS) if writing else limit


class Scheduler(VllmScheduler):
    """vLLM's own, with a bound that follows what is being written. It takes running requests first, in their order, and
    only the last of them can be a prompt that is read in part: replies are never the ones that are left over.
    """

    max_num_scheduled_tokens: int
    _limit: int | None = None

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        if self._limit is None:
            self._limit = self.max_num_scheduled_tokens
        writing = sum(not request.is_prefill_chunk for request in self.running)
        self.max_num_scheduled_tokens = most_tokens(writing, self._limit)
        return super().schedule(throttle_prefills)
