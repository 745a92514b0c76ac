"""Batches across requests: examples that arrive while a batch is computed form the next batch."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Example = TypeVar("Example")
Answer = TypeVar("Answer")


class Batcher(Generic[Example, Answer]):
    """Answers single examples, and computes them in batches.

    It never waits for a batch to fill: a single example is computed at once, and a busier server has fuller batches.
    """

    def __init__(self, answer: Callable[[Sequence[Example]], Sequence[Answer]], most: int):
        """Starts without a thread; see `running`.

        Args:
            answer: function that computes a batch, in its own thread, one batch at a time.
            most: most examples per batch.
        """
        self._answer = answer
        self._most = most
        self._waiting: deque[tuple[Example, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()

    async def __call__(self, example: Example) -> Answer:
        """Answers one example; raises what `answer` raised for its batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((example, future))
        self._arrived.set()
        return await future

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Computes batches while a block runs."""
        with ThreadPoolExecutor(1, "batches") as thread:
            task = asyncio.create_task(self._compute_batches(thread))
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _compute_batches(self, thread: ThreadPoolExecutor) -> None:
        while True:
            await self._arrived.wait()
            batch: list[tuple[Example, asyncio.Future[Answer]]] = []
            while self._waiting and len(batch) < self._most:
                example, future = self._waiting.popleft()
                if not future.cancelled():  # no request waits for it any more
                    batch.append((example, future))
            if not self._waiting:
                self._arrived.clear()
            if batch:
                await self._compute(thread, batch)

    async def _compute(self, thread: ThreadPoolExecutor, batch: list[tuple[Example, asyncio.Future[Answer]]]) -> None:
        examples = [example for example, _ in batch]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(thread, self._answer, examples)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
