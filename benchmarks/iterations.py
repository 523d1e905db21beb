"""Iteration after iteration on a real stack, as the paper runs them, and what each version is like by the gold judge.

Simulated people chat with and vote on whatever serves, an iteration learns, and its version is promoted where the gate
lets it. Each is held beside the first version and the one that served before it. With `--at-once` as many votes are
cast on the first version's replies alone, and one iteration learns from all of them.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.learning_in_the_sandbox import gold_figures, kl_nats, replies, tax_drop
from feedback.sandbox.world import held_out_prompts
from feedback.settings import load_settings
from learner.iteration.versions import load_version
from learner.policy import Policy
from tests.stack import Stack, running_stack
from tests.waiting import wait_for

PER_PROMPT = 8
LEARNT_WITHIN_S = 3600.0


@dataclass
class Loop:
    """A stack, and the policies that have served on it."""

    stack: Stack
    seed: int
    rounds: int = 0

    def __post_init__(self) -> None:
        self.start = self.before = self.policy(0)

    def policy(self, version: int) -> Policy:
        settings = load_settings(home=self.stack.home)
        store = self.stack.store()
        try:
            return load_version(store, settings, settings.learner, version)
        finally:
            store.close()

    def gather(self, votes: int, chats: int) -> None:
        """Votes and further chats, on whatever serves."""
        self.rounds += 1
        seed = 1000 * self.seed + self.rounds
        self.stack.tandem("simulate", "--votes", str(votes), "--chats", str(chats), "--seed", str(seed))

    def learn(self) -> None:
        """An iteration; what came of it is promoted if the gate lets it, and told."""
        began = time.monotonic()
        with self.stack.client() as client:
            iteration = client.post("/v1/iterations", json={}).raise_for_status().json()
            path = f"/v1/iterations/{iteration['id']}"
            wait_for(
                lambda: client.get(path).json()["state"] not in ("queued", "running"),
                LEARNT_WITHIN_S,
                "learning",
                pause_s=0.2,
            )
            iteration = client.get(path).json()
            learnt_s = time.monotonic() - began
            name = iteration["candidate"]
            if name is None:
                print(json.dumps({"state": iteration["state"], "error": iteration["error"]}), flush=True)
                return
            gate = client.get(f"/v1/policies/{name}").json()["gate"]
            against = [rule["rule"] for rule in gate["rules"] if rule["verdict"] == "fail" and rule["blocks"]]
            if gate["passes"]:
                client.post(f"/v1/policies/{name}/promote", json={"reason": "the gate lets it"}).raise_for_status()
        policy = self.policy(int(name.removeprefix("v")))
        told = self.told(policy, name) | {"learnt_s": round(learnt_s), "promoted": gate["passes"], "against": against}
        print(json.dumps(told), flush=True)
        if gate["passes"]:
            self.before = policy

    def told(self, policy: Policy, name: str) -> dict[str, Any]:
        """What a policy is like by gold, beside the first one and the one that served before it."""
        prompts = [prompt for prompt in held_out_prompts() for _ in range(PER_PROMPT)]
        by_start, by_before = (
            gold_figures(policy, replies(other, prompts, self.seed + 8), self.seed + 9, PER_PROMPT)
            for other in (self.start, self.before)
        )
        figures = by_start | {
            "win_rate_before": by_before["win_rate"],
            "tax": tax_drop(policy, self.start),
            "kl": kl_nats(policy, self.start, self.seed + 10),
        }
        return {"version": name} | {key: value and round(value, 3) for key, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--votes", type=int, default=500, help="votes between two iterations")
    parser.add_argument("--chats", type=int, default=500, help="chats without a vote between them")
    parser.add_argument("--at-once", action="store_true", help="one iteration, from all votes, on the first version")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= {"TANDEM_LOOP__AUTOMATIC": "false", "TANDEM_LEARNER__SEED": str(arguments.seed)}
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder) / "home") as stack:
        loop = Loop(stack, arguments.seed)
        for _ in range(arguments.iterations):
            loop.gather(arguments.votes, arguments.chats)
            if not arguments.at_once:
                loop.learn()
        if arguments.at_once:
            loop.learn()


if __name__ == "__main__":
    main()
