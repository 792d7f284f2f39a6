"""Several processes at one training, a GPU each, as torchrun starts them: this one among the others.

The first runs the command: it reads, decides, prints and writes. The others wait to be told of a piece of work, and do
it with the first one (`together`): each takes its part of every batch, and all take the same step. Where one of them
dies, the others end, for what they wait for does not come.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from lottery_hub.errors import LotteryHubError, first_line
from lottery_hub.settings.ambient import deterministic

JOINING = timedelta(minutes=10)  # until a process that does not come at all is missed
# Of a word from another: the first may be at work by itself for long. One that is dead is noticed at once.
PATIENCE = timedelta(days=100)
STARTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells a process
Work = Callable[..., object]


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; one of one where there are no others."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return this process's place among those that it has `joined`: a process group of others is theirs."""
        return _joined[-1] if _joined else cls()

    @property
    def first(self) -> bool:
        """Whether this one runs the command, reads and writes."""
        return self.rank == 0

    def mine(self, number: int) -> bool:
        """Whether a piece of work is this process's, of pieces that are counted from 0."""
        return number % self.size == self.rank

    def part(self, tensor: Tensor) -> Tensor:
        """Return this process's part of a batch; of one too small for all, the first takes everything."""
        if self.size == 1:
            return tensor
        if len(tensor) < 2 * self.size:
            return tensor if self.first else tensor[:0]
        return tensor.tensor_split(self.size)[self.rank]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _heard():
            dist.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view(tensor.shape))

    def every(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensor of every process, in order."""
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        with _heard():
            dist.all_gather(found, tensor)
        return found

    def same(self, value: Any) -> Any:
        """Return the first process's value in all of them."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        with _heard():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def dismiss(self) -> None:
        """Tell the others that there is nothing more to do."""
        if self.size > 1 and _joined:
            with suppress(LotteryHubError):  # one that is gone needs no telling
                self.same(None)

    def follow(self) -> None:
        """Do what the first process tells of, until it has nothing more.

        Raises:
            LotteryHubError: the work fails, or a process of the others has ended.
        """
        while (told := self.same(None)) is not None:
            work, given, exact = told
            with deterministic(exact):
                work(*given, self)


ALONE = Ranks()
_joined: list[Ranks] = []  # one at most: a process is in one group, as torch's own are


@contextmanager
def together(work: Work, *given: object) -> Iterator[Ranks]:
    """Have all other processes do a piece of work, while this one does its part of it inside of this context.

    One piece at a time: of several threads the others wait. Where the work fails here, the others end.

    Args:
        work: called in each as work(*given, ranks); a function of a module, so that they find it by name.
        given: what can be sent to them.
    """
    if Ranks.here().size == 1:
        yield ALONE
        return
    with _one_at_a_time:
        ranks = Ranks.here()
        ranks.same((work, given, torch.are_deterministic_algorithms_enabled()))
        try:
            yield ranks
        except BaseException:
            _leave()  # they wait in the midst of it
            raise


_one_at_a_time = threading.Lock()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun has started, if it has started several, and have the others end at the end.

    Raises:
        LotteryHubError: the others do not come.
    """
    if not started():
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    try:
        # Statistics and words go by gloo, gradients on a GPU by NCCL.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = rendezvous("env://", timeout=JOINING)
        found, rank, size = next(iter(store))
        found.set_timeout(JOINING)
        dist.init_process_group(backend, store=found, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as problem:
        raise LotteryHubError(f"the processes that torchrun started do not meet ({first_line(problem)})") from problem
    _joined.append(Ranks(rank, size))
    try:
        yield _joined[-1]
    finally:
        _leave()


def started() -> bool:
    """Whether this process is one of several that were started together."""
    told = [os.environ.get(name, "") for name in STARTED]
    return all(told) and told[1].isdecimal() and int(told[1]) > 1


def _leave() -> None:
    if _joined:
        _joined.clear()
        dist.destroy_process_group()


@contextmanager
def _heard() -> Iterator[None]:
    try:
        yield
    except RuntimeError as problem:
        raise LotteryHubError(
            f"another process of this training has ended ({first_line(problem)}); the same command goes on from the "
            "last epoch that was finished"
        ) from problem
