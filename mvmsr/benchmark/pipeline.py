"""Read, work, score: the middle step one item at a time, the outer two side by side, everything in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Input = TypeVar("Input")
Output = TypeVar("Output")
Score = TypeVar("Score")

WORK_SECONDS = 2.0
"""Outputs wait for their scores no longer than this much work takes, so little is lost by a stop."""


def in_order(
    items: Sequence[Item],
    load: Callable[[Item], Input],
    work: Callable[[Item, Callable[[], Input]], Output],
    score: Callable[[Output], Score],
    workers: int = 1,
    beside: bool = False,
) -> Iterator[tuple[Output, Score]]:
    """Every item's output and score, in the items' order, with a few items a worker in memory.

    Args:
        load: reads an item; runs in any thread.
        work: called from this thread alone, one item after the other, with a function that gives what was loaded or
            raises what `load` raised.
        score: runs in any thread.
        workers: threads that load and score; with 1 everything happens here, one item after the other.
        beside: work while earlier outputs are scored, for work that another device does; otherwise `work` has the
            machine for itself, so that it can be timed.
    """
    if workers <= 1:
        for item in items:
            output = work(item, lambda item=item: load(item))  # type: ignore[misc]
            yield output, score(output)
        return
    count = 2 * workers
    groups = [items[start : start + count] for start in range(0, len(items), count)]
    waiting: deque[tuple[Output, Future[Score]]] = deque()
    with ThreadPoolExecutor(workers, "score") as pool:
        loads = [pool.submit(load, item) for item in groups[0]] if groups else []
        for number, group in enumerate(groups):
            following = groups[number + 1] if number + 1 < len(groups) else ()
            wait(loads)
            batch: list[Output] = []
            since = time.perf_counter()
            for position, (item, loaded) in enumerate(zip(group, loads, strict=True), start=1):
                batch.append(work(item, loaded.result))
                last = position == len(group)
                if not last and time.perf_counter() - since < WORK_SECONDS:
                    continue
                if last:  # before the scores, so that the next group is ready as soon as they are
                    loads = [pool.submit(load, later) for later in following]
                earlier = len(waiting)
                waiting += [(output, pool.submit(score, output)) for output in batch]
                for _ in range(earlier if beside else len(waiting)):
                    output, scored = waiting.popleft()
                    yield output, scored.result()
                batch, since = [], time.perf_counter()
        for output, scored in waiting:
            yield output, scored.result()
