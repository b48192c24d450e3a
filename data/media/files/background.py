"""Threads that read ahead of, or write behind, the calling thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_INTERVAL_S = 0.1  # seconds between checks whether the other thread has stopped


class _EndOfQueue:
    """Sentinel: the last item of a queue, with the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield `items`, computed up to `depth` ahead on another thread.

    An error on that thread is raised here after the items before it. Closing the generator stops the thread.
    """
    queue: Queue[T | _EndOfQueue] = Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(
        target=_produce, args=(items, queue, stop), daemon=True, name="freezeframe-read"
    )
    thread.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _EndOfQueue):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()


def _produce(items: Iterator[T], queue: Queue[T | _EndOfQueue], stop: threading.Event) -> None:
    try:
        for item in items:
            if not _put(queue, item, stop):
                break
        else:
            _put(queue, _EndOfQueue(), stop)
    except BaseException as error:  # raised again by the consumer
        _put(queue, _EndOfQueue(error), stop)
    finally:
        if close := getattr(items, "close", None):
            close()


def _put(queue: Queue[T], item: T, stop: threading.Event) -> bool:
    """Put `item` into a queue as soon as it has room; False if `stop` is set first."""
    while not stop.is_set():
        try:
            queue.put(item, timeout=_POLL_INTERVAL_S)
        except Full:
            continue
        return True
    return False


class Worker(Generic[T]):
    """Calls `work` on one item at a time on another thread, in order, at most `depth` items behind.

    An error on that thread is raised at the next `put` or `join`; later items are not processed.
    """

    def __init__(self, work: Callable[[T], None], depth: int) -> None:
        self._work = work
        self._queue: Queue[T | _EndOfQueue] = Queue(depth)
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="freezeframe-write")
        self._thread.start()

    def put(self, item: T) -> None:
        self._raise()
        _put(self._queue, item, self._stop)
        self._raise()

    def join(self) -> None:
        """Wait until all items are processed."""
        _put(self._queue, _EndOfQueue(), self._stop)
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """Stop after the current item."""
        self._stop.set()
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    item = self._queue.get(timeout=_POLL_INTERVAL_S)
                except Empty:
                    continue
                if isinstance(item, _EndOfQueue):
                    return
                self._work(item)
        except BaseException as error:  # raised again at the next put or join
            self._error = error
        finally:
            self._stop.set()
