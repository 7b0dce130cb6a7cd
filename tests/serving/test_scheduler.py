"""The scheduler, with runners whose loading and closing the tests can hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from smidgen.errors import EngineFailed, OutOfResources
from smidgen.inference.engines.echo import Echo
from smidgen.serving.faults import QueueFull
from smidgen.serving.library import ServedModel
from smidgen.serving.runner import EngineRunner, Runner
from smidgen.serving.scheduler import LoadOptions, Scheduler
from smidgen.serving.settings import ServingSettings

GENERATE = LoadOptions()


def model(name: str, size: int = 10) -> ServedModel:
    return ServedModel(name, "echo", Path(name), name, size)


@dataclass
class Shop:
    """Opens echo engines, and keeps record."""

    opened: list[tuple[str, LoadOptions]] = field(default_factory=list)
    runners: list[EngineRunner] = field(default_factory=list)
    loading: int = 0
    most_at_once: int = 0
    fail: str = ""
    slots: int = 1
    gate: threading.Event = field(default_factory=threading.Event)

    def __call__(self, wanted: ServedModel, options: LoadOptions) -> Runner:
        self.loading += 1
        self.most_at_once = max(self.most_at_once, self.loading)
        self.gate.wait(5)
        self.loading -= 1
        if wanted.name == self.fail:
            raise EngineFailed("it does not load")
        self.opened.append((wanted.name, options))
        self.runners.append(EngineRunner(Echo(), None, self.slots))
        return self.runners[-1]


def scheduler(shop: Shop, *, memory: int = 100, most: int = 3, **settings: float) -> Scheduler:
    shop.slots = int(settings.get("slots", 1))
    return Scheduler(
        ServingSettings(**settings),  # type: ignore[arg-type]
        shop,
        lambda wanted, options: wanted.bytes,
        memory=memory,
        most_models=most,
    )


def check(test: Callable[[Shop], Awaitable[None]], *, held: bool = False) -> Shop:
    shop = Shop()
    if not held:
        shop.gate.set()
    asyncio.run(asyncio.wait_for(test(shop), 20))  # type: ignore[arg-type]
    return shop


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_requests_to_one_model_share_it_up_to_its_slots() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop, slots=2)
        running, most = 0, 0

        async def ask() -> None:
            nonlocal running, most
            async with tested.acquire(model("a"), GENERATE):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.01)
                running -= 1

        await asyncio.gather(*(ask() for _ in range(7)))
        assert most == 2
        assert shop.opened == [("a", GENERATE)]
        await tested.close()

    check(test)


def test_waiting_requests_go_ahead_in_the_order_they_came() -> None:
    async def test(shop: Shop) -> None:
        tested, order = scheduler(shop), []

        async def ask(number: int) -> None:
            async with tested.acquire(model("a"), GENERATE):
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(ask(number) for number in range(9)))
        assert order == list(range(9))
        await tested.close()

    check(test)


def test_a_full_queue_refuses() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop, max_queue=1)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(tested.acquire(model("a"), GENERATE))
            waiting = asyncio.ensure_future(stack.enter_async_context(tested.acquire(model("a"), GENERATE)))
            await until(lambda: tested.waiting == 1)
            with pytest.raises(QueueFull, match="maximum pending requests exceeded"):
                async with tested.acquire(model("a"), GENERATE):
                    pass
            assert tested.waiting == 1
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert tested.waiting == 0
        await tested.close()

    check(test)


def test_models_are_loaded_one_at_a_time_and_stay_loaded_together() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop)

        async def ask(name: str) -> None:
            async with tested.acquire(model(name), GENERATE):
                pass

        asking = asyncio.gather(ask("a"), ask("b"), ask("c"))
        await until(lambda: shop.loading == 1)
        shop.gate.set()
        await asking
        assert shop.most_at_once == 1
        assert {loaded.model.name for loaded in tested.running()} == {"a", "b", "c"}
        await tested.close()
        assert not any(runner.alive() for runner in shop.runners)

    check(test, held=True)


def test_what_does_not_fit_beside_the_others_takes_the_place_of_the_shortest_wanted() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop, memory=30)
        for name, keep in (("a", 100.0), ("b", 50.0), ("c", 200.0)):
            async with tested.acquire(model(name), GENERATE, keep):
                pass
        async with tested.acquire(model("d"), GENERATE):
            assert {loaded.model.name for loaded in tested.running()} == {"a", "c", "d"}
        await tested.close()

    check(test)


def test_a_busy_model_is_not_taken_away_and_not_given_out_again_either() -> None:
    async def test(shop: Shop) -> None:
        tested, done = scheduler(shop, most=1, slots=2), []

        async def ask(name: str) -> None:
            async with tested.acquire(model(name), GENERATE):
                done.append(name)

        async with tested.acquire(model("a"), GENERATE):
            other = asyncio.ensure_future(ask("b"))
            await until(lambda: tested.waiting == 1)
            same = asyncio.ensure_future(ask("a"))
            await until(lambda: tested.waiting == 2)
            assert done == []
        await asyncio.gather(other, same)
        assert done == ["b", "a"]
        assert [name for name, _ in shop.opened] == ["a", "b", "a"]
        await tested.close()

    check(test)


def test_other_load_time_options_reload_once_the_model_is_idle() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop, slots=2)
        async with tested.acquire(model("a"), LoadOptions.of({"num_ctx": 64})):
            wanted = tested.acquire(model("a"), LoadOptions.of({"num_ctx": 128}))
            waiting = asyncio.ensure_future(wanted.__aenter__())
            await until(lambda: tested.waiting == 1)
            assert len(shop.opened) == 1
        await waiting
        assert [options.context for _, options in shop.opened] == [64, 128]
        assert not shop.runners[0].alive()
        await wanted.__aexit__(None, None, None)
        await tested.close()

    check(test)


def test_an_idle_model_is_closed_when_its_time_is_up() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop)
        async with tested.acquire(model("a"), GENERATE, 0.05):
            await asyncio.sleep(0.1)
            assert shop.runners[0].alive()
        assert len(tested.running()) == 1
        await until(lambda: not shop.runners[0].alive())
        async with tested.acquire(model("a"), GENERATE, 0):
            pass
        await until(lambda: not tested.running())
        assert len(shop.opened) == 2

    check(test)


def test_a_model_that_is_not_to_stay_is_loaded_once_for_each_request() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop, keep_alive=0.0)
        for number in (1, 2):
            async with tested.acquire(model("a"), GENERATE):
                assert len(shop.opened) == number
        await tested.close()

    check(test)


def test_a_dead_runner_is_replaced_for_the_next_request() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop)
        async with tested.acquire(model("a"), GENERATE):
            shop.runners[0].close()
        async with tested.acquire(model("a"), GENERATE) as lease:
            assert lease.runner is shop.runners[1]
        await tested.close()

    check(test)


def test_a_model_that_does_not_load_fails_its_own_requests_only() -> None:
    async def test(shop: Shop) -> None:
        shop.fail = "bad"
        tested = scheduler(shop)

        async def ask(name: str) -> str:
            async with tested.acquire(model(name), GENERATE):
                return "done"

        results = await asyncio.gather(*(ask(name) for name in ("bad", "a", "bad")), return_exceptions=True)
        assert results[1] == "done"
        assert all(isinstance(results[number], EngineFailed) for number in (0, 2))
        with pytest.raises(OutOfResources, match="more system memory"):
            await ask_large(tested)
        await tested.close()

    async def ask_large(tested: Scheduler) -> None:
        async with tested.acquire(model("large", 1000), GENERATE):
            pass

    check(test)


def test_a_client_that_leaves_while_its_model_loads_leaves_nothing_behind() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop)
        asking = asyncio.ensure_future(tested.acquire(model("a"), GENERATE).__aenter__())
        await until(lambda: shop.loading == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        shop.gate.set()
        await until(lambda: len(tested.running()) == 1)
        assert tested.running()[0].active == 0
        assert tested.waiting == 0
        await tested.close()

    check(test, held=True)


def test_a_stopping_server_refuses_what_waits() -> None:
    async def test(shop: Shop) -> None:
        tested = scheduler(shop)
        asking = asyncio.ensure_future(tested.acquire(model("a"), GENERATE).__aenter__())
        await until(lambda: shop.loading == 1)
        stopping = asyncio.ensure_future(tested.close())
        await asyncio.sleep(0.01)
        shop.gate.set()
        await stopping
        with pytest.raises(EngineFailed, match="stopped"):
            await asking
        assert not any(runner.alive() for runner in shop.runners)

    check(test, held=True)
