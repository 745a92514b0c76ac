"""Examples that come while a batch is computed are the next batch; each gets its own answer."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from serving.batcher import Batcher


class Recorder:
    """Doubles numbers, and records the batches; each waits until it may begin."""

    def __init__(self):
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.begun.release()
        self.go.acquire()
        if -1 in numbers:
            raise ValueError("no number")
        return [2 * number for number in numbers]


async def begin(recorder: Recorder) -> None:
    await asyncio.to_thread(recorder.begun.acquire)


def test_what_comes_while_a_batch_is_computed_is_the_next_one():
    async def ask() -> list[int]:
        batcher = Batcher(recorder, most=4)
        async with batcher.running():
            tasks = [asyncio.create_task(batcher(0))]
            await begin(recorder)
            tasks += [asyncio.create_task(batcher(number)) for number in range(1, 7)]
            await asyncio.sleep(0)  # all of them wait now
            recorder.go.release(3)
            return await asyncio.gather(*tasks)

    recorder = Recorder()
    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10, 12]
    assert recorder.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_an_example_that_nobody_waits_for_is_not_computed():
    async def ask() -> None:
        batcher = Batcher(recorder, most=4)
        async with batcher.running():
            first = asyncio.create_task(batcher(0))
            await begin(recorder)
            second, third = (asyncio.create_task(batcher(number)) for number in (1, 2))
            await asyncio.sleep(0)
            second.cancel()
            recorder.go.release(2)
            assert await asyncio.gather(first, third) == [0, 4]

    recorder = Recorder()
    asyncio.run(ask())
    assert recorder.batches == [[0], [2]]


def test_an_error_is_that_of_its_batch_alone():
    async def ask() -> None:
        batcher = Batcher(recorder, most=4)
        async with batcher.running():
            with pytest.raises(ValueError, match="no number"):
                await batcher(-1)
            assert await batcher(1) == 2

    recorder = Recorder()
    recorder.go.release(2)
    asyncio.run(ask())
