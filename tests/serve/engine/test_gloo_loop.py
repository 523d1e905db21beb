"""Process groups of one process share a thread; of several they are PyTorch's own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOOPS = """
import os, sys, torch
import torch.distributed as dist
from serve.engine import gloo_loop

rank, size, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
gloo_loop.share()
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
groups = [dist.new_group(list(range(size)), backend="gloo") for _ in range(3)]
total = torch.tensor([rank + 1.0])
for group in groups:
    dist.all_reduce(total, group=group)
    dist.barrier(group)
threads = [open(f"/proc/self/task/{thread}/comm").read() for thread in os.listdir("/proc/self/task")]
print(total.item(), sum(name.startswith("gloo") for name in threads))
dist.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are told by /proc")
@pytest.mark.parametrize(("size", "said"), [(1, "1.0 1"), (2, "12.0 4")])
def test_one_thread_where_there_is_one_process(tmp_path: Path, size: int, said: str) -> None:
    command = [sys.executable, "-c", LOOPS]
    ranks = [
        subprocess.Popen([*command, str(rank), str(size), str(tmp_path / "store")], cwd=ROOT, stdout=subprocess.PIPE)
        for rank in range(size)
    ]
    assert [process.communicate(timeout=100)[0].decode().strip() for process in ranks] == [said] * size
