"""One thread of torch where processes share the cores: several threads in each would wait for one another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block.

    With as many busy processes as cores, two threads that meet after every layer were ten times slower than one. And
    one thread always adds in the same order, so results do not depend on the number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
