"""Proof that an engine serves the weights that were published: its log-probabilities against the learner's.

vLLM answers 200 for weights that it did not take, so nothing but its own figures is believed.
"""

import asyncio
import math

from feedback.errors import PolicyInvalid
from feedback.settings import EngineSettings
from serve.engine.client import EngineClient
from serve.engine.launcher_protocol import SERVED_NAME
from serve.engine.policy_folders import Probe

FLOAT32_TOLERANCE_NATS = 0.005
COARSE_TOLERANCE_NATS = 0.25


async def prove(
    client: EngineClient,
    probes: list[Probe],
    settings: EngineSettings,
    model: str,
    tolerance: float | None = None,
) -> None:
    """`model` is what the version is called inside the engine; `tolerance`, in nats, is what the settings and the
    number formats of engine and learner say unless it is given.

    Raises PolicyInvalid when the engine differs from the learner, EngineLost when it does not answer.
    """
    allowed = tolerance or settings.probe_tolerance or await default_tolerance(client, probes, settings.swap_timeout_s)
    # All at once: where there is one engine only, everybody waits for this.
    differences = await asyncio.gather(
        *[_largest_difference(client, probe, settings.swap_timeout_s, model) for probe in probes]
    )
    worst = max(differences, default=0.0)
    if worst > allowed:
        raise PolicyInvalid(
            f"the engine's log-probabilities differ from the learner's by up to {worst:.3g} nats, "
            f"more than {allowed:g} (engine.probe_tolerance): this is not the policy that was published"
        )


async def _largest_difference(client: EngineClient, probe: Probe, timeout_s: float, model: str) -> float:
    """In nats, over the tokens that the learner scored; infinite where the engine has no finite figure."""
    first = probe.prompt_length
    if model == SERVED_NAME:
        found = (await client.score(probe.tokens, timeout_s))[first:]
    else:
        asked = [
            client.score_next(probe.tokens[:at], probe.tokens[at], timeout_s, model)
            for at in range(first, len(probe.tokens))
        ]
        found = await asyncio.gather(*asked)
    differences = [
        math.inf if got is None or not math.isfinite(got) else abs(got - want)
        for got, want in zip(found, probe.logprobs, strict=True)
    ]
    return max(differences, default=0.0)


async def default_tolerance(client: EngineClient, probes: list[Probe], timeout_s: float) -> float:
    """In nats; what the coarser of the two computes in decides. Raises EngineLost."""
    formats = {await client.weight_format(timeout_s), *(probe.number_format for probe in probes)}
    in_float32 = formats == {"float32"}
    return FLOAT32_TOLERANCE_NATS if in_float32 else COARSE_TOLERANCE_NATS
