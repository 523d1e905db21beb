"""What vLLM 0.32 lacks on a CPU: a prompt with a seed may be read in more than one step.

After each step but the last vLLM forgets the token that it drew and winds the seed's generator back, which torch does
for a GPU's generators only: on a CPU it raises, and the engine dies. Here nothing is drawn from the seed until the
prompt is read, so that the reply does not depend on the number of steps either. Both engines that serve and those of
rollouts need it.
"""

import functools
from typing import Any


def mend(runner_class: Any) -> None:
    """`runner_class` is vLLM's GPUModelRunner, from which the one for CPUs descends; before an engine starts."""
    sample = runner_class.sample_tokens
    if getattr(sample, "keeps_seeds", False):
        return

    @functools.wraps(sample)
    def sample_tokens(self: Any, grammar_output: Any) -> Any:
        batch = self.input_batch
        generators: dict[int, Any] = batch.generators
        unread: list[int] = self.discard_request_mask.np[: batch.num_reqs].nonzero()[0].tolist()
        kept = {row: generators.pop(row) for row in unread if row in generators}
        try:
            return sample(self, grammar_output)
        finally:
            generators.update(kept)

    sample_tokens.keeps_seeds = True  # type: ignore[attr-defined]
    runner_class.sample_tokens = sample_tokens
