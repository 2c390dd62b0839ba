"""The next things prepared by a thread, while the present one is worked with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PATIENCE = 0.1


class _Message(Generic[Item]):
    """What the thread sends: an item, an error, or, where both are None, the end."""

    def __init__(self, item: Item | None = None, error: BaseException | None = None) -> None:
        self.item, self.error = item, error


def prefetched(items: Iterable[Item], *, ahead: int) -> Iterator[Item]:
    """The same items in the same order; the next ones are made by a thread meanwhile.

    An error in making an item is raised where that item would have come. When the iterator is closed early, the
    thread ends.

    Args:
        items: made one by one, and only by that thread; none of them is None.
        ahead: how many may wait; with 0 there is no thread.

    Example:
        >>> list(prefetched(range(4), ahead=2))
        [0, 1, 2, 3]
    """
    if ahead <= 0:
        yield from items
        return
    queue: Queue[_Message[Item]] = Queue(maxsize=ahead)
    stopped = Event()
    thread = Thread(target=_make, args=(items, queue, stopped), name="prefetching", daemon=True)
    thread.start()
    try:
        while (message := queue.get()).item is not None:
            yield message.item
        if message.error is not None:
            raise message.error
    finally:
        stopped.set()
        with suppress(Empty):
            queue.get_nowait()
        thread.join()


def _make(items: Iterable[Item], queue: Queue[_Message[Item]], stopped: Event) -> None:
    """Fill the queue until the end, an error, or until nobody wants more."""
    try:
        for item in items:
            if not _sent(_Message(item), queue, stopped):
                return
        _sent(_Message(), queue, stopped)
    except BaseException as error:
        _sent(_Message(error=error), queue, stopped)


def _sent(message: _Message[Item], queue: Queue[_Message[Item]], stopped: Event) -> bool:
    while not stopped.is_set():
        with suppress(Full):
            queue.put(message, timeout=_PATIENCE)
            return True
    return False
