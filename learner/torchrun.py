"""How an iteration becomes several processes: the command line of torchrun, on one machine or on each of several."""

import sys

from feedback.settings import LearnerSettings


def torchrun(learner: LearnerSettings, node: int, *arguments: str) -> list[str]:
    """The command that runs `learner.iteration` with these arguments in all processes of machine number `node`."""
    where = ["--standalone", "--local-addr", "127.0.0.1"]
    if learner.rendezvous is not None:
        address, _, port = learner.rendezvous.rpartition(":")
        where = ["--nnodes", str(learner.nodes), "--node-rank", str(node)]
        where += ["--master-addr", address, "--master-port", port]
    command = [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node", str(learner.processes)]
    return [*command, "-m", "learner.iteration", *arguments]
