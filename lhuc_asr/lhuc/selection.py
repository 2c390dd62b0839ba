"""Who speaks in the batch that a thread is just computing, or which scales its utterances have."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from lhuc_asr.errors import SiteError, SpeakerError

# One for all banks and outside of them: what hangs on a module, the compiler takes to be of one size for ever.
_here = threading.local()
_counter = itertools.count()

Rows = TypeVar("Rows")


@dataclass(frozen=True)
class Selection(Generic[Rows]):
    """The utterances of one batch.

    Attributes:
        rows: (B,) row of each utterance's speaker; or for gates, site name -> (B, ...) factors of each utterance.
        utterance_of_row: (N,) where utterances of different length lie one after the other, to which each row belongs.
        task: the asyncio task that named the speakers, if any.
    """

    rows: Rows
    utterance_of_row: Tensor | None
    task: asyncio.Task[Any] | None


class Selections(Generic[Rows]):
    """One selection for every thread.

    Args:
        block: the context manager in which a thread names its utterances, for messages.
        nothing: what is wrong with a thread outside of it.

    `torch.compile` reads a `threading.local`, but no `contextvars.ContextVar`; so asyncio tasks, which share a thread,
    are kept apart by refusal: a task that awaits while it has a selection must not meet another one's.
    """

    def __init__(self, block: str, nothing: str) -> None:
        self.block, self.nothing = block, nothing
        self._key = f"of_bank_{next(_counter)}"

    @contextmanager
    def chosen(self, rows: Rows, utterance_of_row: Tensor | None) -> Iterator[None]:
        """Let this thread compute for these utterances inside the block; blocks may be nested.

        Raises:
            SpeakerError: another asyncio task of this thread is inside its own block.
        """
        before: Selection[Rows] | None = getattr(_here, self._key, None)
        task = _running_task()
        if before is not None and before.task is not None and before.task is not task:
            raise SpeakerError(
                "another asyncio task of this thread has named its speakers and awaits something inside its block; "
                "compute without awaiting there, or in a thread (asyncio.to_thread)"
            )
        setattr(_here, self._key, Selection(rows, utterance_of_row, task))
        try:
            yield
        finally:
            if before is None:
                delattr(_here, self._key)
            else:
                setattr(_here, self._key, before)

    def current(self) -> Selection[Rows]:
        """This thread's selection.

        Raises:
            SiteError: the thread has none, or it belongs to another asyncio task.
        """
        selection: Selection[Rows] | None = getattr(_here, self._key, None)
        if selection is None:
            raise SiteError(f"{self.nothing}: use `with {self.block}`")
        if not torch.compiler.is_compiling() and selection.task is not None and selection.task is not _running_task():
            raise SiteError(
                "the speakers of this thread were named by another asyncio task, which awaits something inside its "
                f"`with {self.block}`; compute without awaiting there"
            )
        return selection


def _running_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
