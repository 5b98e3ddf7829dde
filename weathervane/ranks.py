"""Several processes that train one variant together, each on its part of every batch.

Data parallel as in Li et al. 2020 (arXiv 2006.15704), started by torchrun, which says in the environment how many there
are. All hold the dataset and draw the same random numbers for the same whole batch, so their number decides who
computes what and little else: dropout differs, and on a CPU batch normalisation sees a part at a time, as torch has no
other there. The first process alone writes. Legend: N = images of a batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed, nn

from weathervane.device import choose
from weathervane.errors import InputError
from weathervane.lifeline import TORCHRUN


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # which on this machine

    @classmethod
    def from_environment(cls) -> "Ranks":
        """As torchrun says; one process for whoever else says such things, as a job of a cluster does."""
        if TORCHRUN not in os.environ:
            return cls()
        return cls(*(int(os.environ.get(name, no)) for name, no in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))))

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device called `name`; of several GPUs, that of this process.

        Raises:
            InputError: it is not there, or there are more processes than GPUs.
        """
        chosen = choose(name)
        if self.world_size == 1 or chosen.type == "cpu":
            return chosen
        if chosen.type == "mps" and name == "auto":
            return torch.device("cpu")
        there = torch.cuda.device_count()
        if chosen.type == "mps" or self.local_rank >= there:
            raise InputError(
                f"--processes: each takes a CUDA GPU of its own, and this machine has {there}: ask for as many, or for "
                "--device cpu"
            )
        return torch.device(f"cuda:{self.local_rank}")

    @contextmanager
    def process_group(self, device: torch.device) -> Iterator[None]:
        """Within it the processes can talk, by NCCL between GPUs, else by Gloo."""
        if self.world_size == 1:
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        yield
        distributed.destroy_process_group()  # not after an error: the others may wait for this one, which torchrun ends

    def sync_batchnorm(self, net: nn.Module) -> nn.Module:
        """The network with batch normalisation over the whole batch; on a CPU, torch has none, and each part is one."""
        on_gpus = self.world_size > 1 and next(net.parameters()).device.type == "cuda"
        return nn.SyncBatchNorm.convert_sync_batchnorm(net) if on_gpus else net

    def data_parallel(self, net: nn.Module) -> nn.Module:
        """The network through which a batch goes: its gradients are the mean over all processes.

        One that freezes a part of itself says so by `start_epoch`.
        """
        if self.world_size == 1:
            return net
        return nn.parallel.DistributedDataParallel(net, find_unused_parameters=hasattr(net, "start_epoch"))

    def check_batch(self, size: int, images: int) -> None:
        """Refuse a batch, of that many images in all, that does not fall into equal parts of two or more, which
        normalisation needs."""
        if self.world_size > 1 and (size % self.world_size or size < 2 * self.world_size):
            most = f" below {size}, since there are only {size} to train on" if size == images else ""
            raise InputError(
                f"train.batch: {size} images cannot be shared evenly by {self.world_size} processes, two or more for "
                f"each: make it a multiple of {self.world_size}{most}"
            )

    def seed(self, seed: int, steps: int) -> int:
        """Of this process alone, of 32 bits: torch's generator on a CPU drops the others."""
        return int(np.random.SeedSequence([seed, self.rank, steps]).generate_state(1)[0])

    def local_rows(self, batch: Tensor) -> Tensor:
        """This process's rows of [N, ...]."""
        return batch.chunk(self.world_size)[self.rank]

    def barrier(self) -> None:
        """Wait for the others to come as far."""
        if self.world_size > 1:
            distributed.barrier()

    def mean(self, values: Tensor) -> Tensor:
        """Elementwise, over the processes."""
        if self.world_size == 1:
            return values
        distributed.all_reduce(values := values.clone())
        return values / self.world_size

    def any(self, *asked: bool) -> tuple[bool, ...]:
        """Each question with the answer that all processes act upon: yes, if one of them says so."""
        if self.world_size == 1:
            return asked
        said = torch.tensor(asked, dtype=torch.uint8)
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return tuple(bool(one) for one in said)
