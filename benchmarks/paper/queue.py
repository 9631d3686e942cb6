"""Jobs in order, a few at once; a job starts when those that it needs have ended well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

TICK_S = 0.5


@dataclass(frozen=True)
class Job:
    """Work with a name.

    Attributes:
        needs: names of jobs that have to end before it; one that is not in the queue counts as ended.
        counts: whether it is a cell, for the progress line.
    """

    name: str
    work: Callable[[], None]
    needs: tuple[str, ...] = ()
    counts: bool = True


@dataclass
class Queue:
    """Runs jobs in threads.

    Attributes:
        jobs: in order of urgency.
        done: cells that were finished before.
        say: prints a line.
        over: called once when the time is up, to end what runs.
        ignored: the exception of a job that was ended, not failed.
    """

    jobs: Sequence[Job]
    done: int
    say: Callable[[str], None]
    over: Callable[[], None]
    ignored: type[Exception]
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, workers: int, minutes: float | None) -> None:
        """Returns when all jobs have ended, or after ``minutes`` when those that ran have been ended."""
        self._left, self._running, self._ended = list(self.jobs), set[str](), set[str]()
        self._start, self._changed = time.monotonic(), threading.Condition()
        self._total = self.done + sum(job.counts for job in self.jobs)
        self._is_over, self._times = False, list[float]()
        threads = [threading.Thread(target=self._work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(min(TICK_S, 0.01 if not self._left else TICK_S))
                if minutes is not None and not self._is_over and time.monotonic() - self._start > 60 * minutes:
                    self.say(f"{minutes:g} minutes are over; the same command goes on")
                    self._stop()
        except KeyboardInterrupt:
            self._stop()
            for thread in threads:
                thread.join()
            raise

    def _stop(self) -> None:
        with self._changed:
            self._is_over = True
            self._left.clear()
            self._changed.notify_all()
        self.over()

    def _next(self) -> Job | None:
        """The first job that may start, waiting for one; None at the end."""
        with self._changed:
            while self._left:
                names = {job.name for job in self._left} | self._running
                for job in self._left:
                    if any(need in self.failed for need in job.needs):
                        self.failed[job.name] = "what it needs has failed"
                        self._left.remove(job)
                        break
                    if not any(need in names for need in job.needs):
                        self._left.remove(job)
                        self._running.add(job.name)
                        return job
                else:
                    self._changed.wait()
            return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            start, reason = time.monotonic(), None
            try:
                job.work()
            except self.ignored:
                reason = ""
            except Exception as error:  # one cell must not end the others
                reason = f"{type(error).__name__}: {error}"
            with self._changed:
                self._running.discard(job.name)
                if reason:
                    self.failed[job.name] = reason
                    self.say(f"{job.name} failed: {reason}")
                elif reason is None:
                    self._note(job, time.monotonic() - start)
                self._changed.notify_all()

    def _note(self, job: Job, seconds: float) -> None:
        """One line for a job that ended well."""
        if not job.counts:
            self.say(f"{job.name}: {seconds:.0f} s")
            return
        self._times.append(seconds)
        self.done += 1
        to_do = self._total - self.done
        # Jobs overlap, so the rate is by the clock.
        left = (time.monotonic() - self._start) / len(self._times) * to_do
        progress = f"{self.done} of {self._total} cells done, {to_do} to do, about {_span(left)} left"
        self.say(f"{job.name}: {seconds:.0f} s; {progress}")


def _span(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
