# SPDX-License-Identifier: MIT
"""A few threads that do small jobs and pass on the first error."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

#: A job is told the number of the thread that does it, from 0.
Job = Callable[[int], None]

#: Jobs waiting for each thread: enough that none starves while the giver looks for more pages, few
#: enough that a cancelled migration ends at once.
WAITING = 2


class Workers:
    """Threads that work through one queue.

    Args:
        count: how many.
        name: what the threads are called, with a number behind.
        on_error: called once, by the thread of the first job that raises.
    """

    def __init__(self, count: int, name: str, on_error: Callable[[], object] | None = None) -> None:
        self._jobs: queue.Queue[Job | None] = queue.Queue(count * WAITING)
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._on_error = on_error
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"{name}-{i}", daemon=True) for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        while True:
            job = self._jobs.get()
            try:
                if job is None:
                    return
                # After an error the rest is only taken out of the way, so that nobody waits for ever.
                if self._error is None:
                    job(number)
            # Kept for the thread that gave the job; it is raised there, whatever it is.
            except BaseException as error:  # noqa: BLE001
                self._failed(error)
            finally:
                self._jobs.task_done()

    def _failed(self, error: BaseException) -> None:
        with self._lock:
            first = self._error is None
            self._error = self._error or error
        if first and self._on_error is not None:
            self._on_error()

    def give(self, job: Job) -> None:
        """Hands a job to the next idle thread; waits while all are busy. Raises what an earlier job raised."""
        self._check()
        self._jobs.put(job)

    def wait(self) -> None:
        """Returns when all jobs are done. Raises what a job raised."""
        self._jobs.join()
        self._check()

    def close(self) -> None:
        """Ends the threads after the jobs given so far."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
