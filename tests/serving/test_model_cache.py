"""The cache: one load, least recently used first, nothing that is in use."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from fedcomp.errors import ArtifactError, OverLimit
from fedcomp.serving.model_cache import ModelCache


@dataclass
class Shelf:
    """Loadable things that note how often they were loaded, and what is there at once."""

    num_bytes: dict[str, int]
    loads: list[str] = field(default_factory=list)

    async def fetch(self, key):
        await asyncio.sleep(0)
        if key not in self.num_bytes:
            raise ArtifactError(key)
        return Thing(self, key, self.num_bytes[key])


@dataclass
class Thing:
    shelf: Shelf
    key: str
    num_bytes: int

    def load(self):
        self.shelf.loads.append(self.key)
        return self.key


def cache_of(budget, **num_bytes):
    shelf = Shelf(num_bytes)
    return shelf, ModelCache(budget, shelf.fetch)


async def use(cache, key):
    (await cache.acquire(key)).release()


def test_many_first_requests_are_one_load():
    async def check():
        shelf, cache = cache_of(10, a=4)
        leases = await asyncio.gather(*(cache.acquire("a") for _ in range(20)))
        assert shelf.loads == ["a"]
        assert {lease.model for lease in leases} == {"a"}
        assert cache.figures == (4, 1, 1, 0)

    asyncio.run(check())


def test_the_least_recently_used_goes():
    async def check():
        shelf, cache = cache_of(10, a=4, b=4, c=4)
        for key in "abacabc":
            await use(cache, key)
        assert shelf.loads == ["a", "b", "c", "b", "c"]  # b made room for c, c for b, a was used last
        assert cache.figures.num_bytes == 8

    asyncio.run(check())


def test_what_is_in_use_stays_and_others_wait():
    async def check():
        _, cache = cache_of(10, a=6, b=6)
        held = await cache.acquire("a")
        waiting = asyncio.ensure_future(cache.acquire("b"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert (await cache.acquire("a")).model == "a"
        held.release()
        held.release()
        await asyncio.sleep(0.02)
        assert not waiting.done()  # the second lease of a is still out; releasing the first twice gave it up once

    asyncio.run(check())


def test_failures_reach_all_who_wait_and_are_not_kept():
    async def check():
        shelf, cache = cache_of(10)
        results = await asyncio.gather(*(cache.acquire("a") for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [ArtifactError] * 3
        shelf.num_bytes["a"] = 4
        await use(cache, "a")
        shelf.num_bytes["huge"] = 11
        with pytest.raises(OverLimit, match="needs 11 bytes"):
            await cache.acquire("huge")
        assert cache.figures == (4, 1, 1, 0)

    asyncio.run(check())


def test_who_gives_up_takes_nothing_from_others():
    async def check():
        shelf, cache = cache_of(10, a=4)
        first = asyncio.ensure_future(cache.acquire("a"))
        second = asyncio.ensure_future(cache.acquire("a"))
        await asyncio.sleep(0)
        first.cancel()
        (await second).release()
        assert shelf.loads == ["a"]
        shelf.num_bytes["b"] = 10
        await use(cache, "b")  # a has no users left

    asyncio.run(check())


def test_the_budget_holds_whatever_is_asked_for():
    async def check():
        keys = [f"m{number}" for number in range(9)]
        shelf, cache = cache_of(10, **{key: 1 + number % 5 for number, key in enumerate(keys)})
        order, in_use = random.Random(0), []

        async def client():
            for _ in range(30):
                lease = await cache.acquire(order.choice(keys))
                in_use.append(lease.model)
                assert sum(shelf.num_bytes[key] for key in set(in_use)) <= cache.figures.num_bytes <= 10
                await asyncio.sleep(order.random() / 2000)
                in_use.remove(lease.model)
                lease.release()

        await asyncio.gather(*(client() for _ in range(12)))
        assert cache.figures.loads - cache.figures.unloads == cache.figures.models

    asyncio.run(check())
