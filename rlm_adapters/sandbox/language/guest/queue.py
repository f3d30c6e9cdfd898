"""``queue`` of the cells."""

from collections import deque
from heapq import heappop, heappush
from threading import Condition


class Empty(Exception):
    """There is nothing in the queue."""


class Full(Exception):
    """The queue is full."""


class Queue:
    """First in, first out."""

    def __init__(self, maxsize=0):
        self.maxsize = maxsize
        self.queue = deque()
        self._changed = Condition()
        self.unfinished_tasks = 0

    def _put(self, item):
        self.queue.append(item)

    def _get(self):
        return self.queue.popleft()

    def qsize(self):
        return len(self.queue)

    def empty(self):
        return not self.queue

    def full(self):
        return 0 < self.maxsize <= len(self.queue)

    def put(self, item, block=True, timeout=None):
        if self.full() and not (block and timeout is None):
            raise Full()
        self._changed.wait_for(lambda: not self.full())
        self._put(item)
        self.unfinished_tasks += 1
        self._changed.notify()

    def get(self, block=True, timeout=None):
        if not self.queue and not (block and timeout is None):
            raise Empty()
        self._changed.wait_for(lambda: self.queue)
        item = self._get()
        self._changed.notify()
        return item

    def put_nowait(self, item):
        self.put(item, block=False)

    def get_nowait(self):
        return self.get(block=False)

    def task_done(self):
        if self.unfinished_tasks <= 0:
            raise ValueError("task_done() called too many times")
        self.unfinished_tasks -= 1
        self._changed.notify()

    def join(self):
        self._changed.wait_for(lambda: not self.unfinished_tasks)


class LifoQueue(Queue):
    """Last in, first out."""

    def _get(self):
        return self.queue.pop()


class PriorityQueue(Queue):
    """Smallest first."""

    def __init__(self, maxsize=0):
        super().__init__(maxsize)
        self.queue = []

    def _put(self, item):
        heappush(self.queue, item)

    def _get(self):
        return heappop(self.queue)


SimpleQueue = Queue
