"""Which models are loaded: several at once within a memory limit, each kept as long as it is wanted.

Requests wait in one bounded queue, in the order they came. A request goes ahead when its model is loaded as it
needs it and has a free slot; otherwise a load begins (one at a time), or what stands in its way is closed as soon
as nothing runs on it. Everything here runs on the event loop's thread; only opening and closing a model do not.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from smidgen.errors import EngineFailed, OutOfResources, SmidgenError
from smidgen.serving.faults import QueueFull

if TYPE_CHECKING:
    from smidgen.serving.library import ServedModel
    from smidgen.serving.runner import Runner
    from smidgen.serving.settings import ServingSettings

Purpose = Literal["generate", "embed", "score"]

LOAD_TIME = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict")
"""Options that take effect when a model is loaded."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be loaded.

    Attributes:
        purpose: Whether it shall write, make vectors, or say how likely prompts are.
        context: Tokens of one answer's context; None for the server's default.
        values: The other options of `LOAD_TIME` that were asked for.
        unguessed: Whether no token may be guessed ahead: the engine tells no log-probabilities of guessed tokens.
    """

    purpose: Purpose = "generate"
    context: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    unguessed: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any], purpose: Purpose = "generate", *, unguessed: bool = False) -> LoadOptions:
        """Pick the load-time options out of a request's.

        Example:
            >>> LoadOptions.of({"num_ctx": 64, "temperature": 0, "num_batch": 8})
            LoadOptions(purpose='generate', context=64, values={'num_batch': 8}, unguessed=False)
        """
        given = {name: options[name] for name in LOAD_TIME if options.get(name) is not None}
        return cls(purpose, given.pop("num_ctx", None), given, unguessed)

    def satisfied_by(self, loaded: LoadOptions, default_context: int) -> bool:
        """Say whether a model that was loaded so serves; options that are not asked for do not matter.

        Example:
            >>> small, any_size = LoadOptions(context=64), LoadOptions()
            >>> any_size.satisfied_by(LoadOptions(), 4096), any_size.satisfied_by(small, 4096)
            (True, False)
        """
        have = loaded.context or default_context
        fits = have >= default_context if self.context is None else have == self.context
        return fits and all(loaded.values.get(name) == value for name, value in self.values.items())


Opener = Callable[["ServedModel", LoadOptions], "Runner"]
"""Loads a model; runs in a thread, and raises a SmidgenError where it cannot be done."""

Estimate = Callable[["ServedModel", LoadOptions], int]
"""Says, without loading it, how many bytes a loaded model will take."""


@dataclass
class Loaded:
    """A model that is loaded, being loaded or being closed.

    Attributes:
        model: The model.
        options: How it is loaded.
        bytes: Memory that it takes, as estimated, or as measured once it is loaded.
        runner: What answers; None until it is loaded.
        active: Requests that run on it.
        keep_alive: Seconds that it stays once idle.
        expires_at: When it will be closed if nothing asks for it, in seconds since 1970; inf for never.
        leaving: Takes no more requests; closed as soon as none runs.
    """

    model: ServedModel
    options: LoadOptions
    bytes: int
    keep_alive: float
    runner: Runner | None = None
    active: int = 0
    expires_at: float = math.inf
    leaving: bool = False
    timer: asyncio.TimerHandle | None = None
    closing: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class Lease:
    """The right to run one request on a loaded model.

    Attributes:
        runner: What answers.
        load_seconds: Time from asking until the model was ready, queueing included.
    """

    runner: Runner
    load_seconds: float


@dataclass(eq=False)
class _Ticket:
    model: ServedModel
    options: LoadOptions
    keep_alive: float
    turn: asyncio.Future[Loaded]

    @property
    def key(self) -> _Key:
        return (self.model.name, self.options.purpose)


_Key = tuple[str, Purpose]


class Scheduler:
    """Loads models, hands them out and gives them back.

    Args:
        settings: The server's bounds.
        opener: Loads a model.
        estimate: Says how much memory a model takes.
        memory: Bytes that all loaded models together may take.
        most_models: Models that may be loaded at once.
    """

    def __init__(
        self, settings: ServingSettings, opener: Opener, estimate: Estimate, *, memory: int, most_models: int
    ) -> None:
        self._settings = settings
        self._opener = opener
        self._estimate = estimate
        self._memory = memory
        self._most = most_models
        self._queue: list[_Ticket] = []
        self._loaded: dict[_Key, Loaded] = {}
        self._loading = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests that wait for a model or a slot."""
        return len(self._queue)

    @property
    def default_context(self) -> int:
        """Tokens of the context where neither a request nor a model says."""
        from smidgen.inference.llama_server import DEFAULT_CONTEXT

        return self._settings.context or DEFAULT_CONTEXT

    def running(self) -> list[Loaded]:
        """Return the loaded models, those that expire last first."""
        ready = [
            loaded
            for loaded in self._loaded.values()
            if loaded.runner is not None and loaded.closing is None and loaded.runner.alive()
        ]
        return sorted(ready, key=lambda loaded: loaded.expires_at, reverse=True)

    @asynccontextmanager
    async def acquire(
        self, model: ServedModel, options: LoadOptions, keep_alive: float | None = None
    ) -> AsyncIterator[Lease]:
        """Hold a slot of a model, loading it first where need be.

        Args:
            model: The model.
            options: How it must be loaded.
            keep_alive: Seconds that it stays loaded afterwards; None for the server's setting.

        Raises:
            QueueFull: Too many requests wait already.
            OutOfResources: The model does not fit into the memory.
            EngineFailed: It cannot be loaded.
        """
        started = time.perf_counter()
        patience = self._settings.keep_alive if keep_alive is None else keep_alive
        loaded = await self._wait_for_turn(model, options, patience)
        try:
            assert loaded.runner is not None
            yield Lease(loaded.runner, time.perf_counter() - started)
        finally:
            self._release(loaded, patience)

    async def unload(self, name: str) -> None:
        """Close a model as soon as nothing runs on it, and return when it is closed or busy."""
        for loaded in [each for key, each in self._loaded.items() if key[0] == name]:
            loaded.leaving = True
            if loaded.active == 0 and loaded.runner is not None:
                await self._begin_closing(loaded)

    async def close(self) -> None:
        """Refuse what waits and close every model, whatever runs on it."""
        self._closed = True
        for ticket in self._queue:
            if not ticket.turn.done():
                ticket.turn.set_exception(EngineFailed("The server is being stopped."))
        while self._tasks or self._loaded:
            for loaded in list(self._loaded.values()):
                if loaded.runner is not None:
                    self._begin_closing(loaded)
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wait_for_turn(self, model: ServedModel, options: LoadOptions, keep_alive: float) -> Loaded:
        ticket = _Ticket(model, options, keep_alive, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        self._dispatch()
        if not ticket.turn.done() and len(self._queue) > self._settings.max_queue:
            self._queue.remove(ticket)
            raise QueueFull
        try:
            return await ticket.turn
        except asyncio.CancelledError:
            if ticket.turn.done() and not ticket.turn.cancelled() and ticket.turn.exception() is None:
                self._release(ticket.turn.result(), keep_alive)  # the slot came as the client left
            raise
        finally:
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._dispatch()

    def _dispatch(self) -> None:
        """Let every waiting request go ahead that can; of one model's, none before an older one."""
        blocked: set[_Key] = set()
        for ticket in list(self._queue):
            if self._closed:
                return
            if ticket.turn.done():
                continue
            if ticket.key in blocked or not self._place(ticket):
                blocked.add(ticket.key)

    def _place(self, ticket: _Ticket) -> bool:
        """Give a request a slot, or take the next step towards one."""
        loaded = self._loaded.get(ticket.key)
        if loaded is None:
            self._begin_loading(ticket)
            return False
        if loaded.runner is None or loaded.closing is not None:
            return False
        wrong = not ticket.options.satisfied_by(loaded.options, self.default_context)
        wrong = wrong or (ticket.options.unguessed and loaded.runner.speculation.kind != "off")
        if loaded.model.digest != ticket.model.digest or wrong or not loaded.runner.alive():
            loaded.leaving = True
        if loaded.leaving:
            if loaded.active == 0:
                self._begin_closing(loaded)
            return False
        if loaded.active >= loaded.runner.slots:
            return False
        loaded.active += 1
        self._stop_timer(loaded)
        self._queue.remove(ticket)
        ticket.turn.set_result(loaded)
        return True

    def _release(self, loaded: Loaded, keep_alive: float) -> None:
        loaded.active -= 1
        loaded.keep_alive = keep_alive
        loaded.expires_at = time.time() + keep_alive
        if loaded.active == 0:
            self._rest(loaded)
        self._dispatch()

    def _rest(self, loaded: Loaded) -> None:
        """Close a model on which nothing runs any more, now or when its time is up."""
        dead = loaded.runner is None or not loaded.runner.alive()
        if loaded.leaving or dead or loaded.keep_alive <= 0:
            self._begin_closing(loaded)
        elif math.isfinite(loaded.keep_alive):
            self._stop_timer(loaded)
            loaded.timer = asyncio.get_running_loop().call_later(loaded.keep_alive, self._expire, loaded)

    def _expire(self, loaded: Loaded) -> None:
        if loaded.active == 0:
            self._begin_closing(loaded)

    @staticmethod
    def _stop_timer(loaded: Loaded) -> None:
        if loaded.timer is not None:
            loaded.timer.cancel()
            loaded.timer = None

    def _begin_loading(self, ticket: _Ticket) -> None:
        if self._loading:
            return
        try:
            need = self._estimate(ticket.model, ticket.options)
            if not self._has_room(need):
                return
        except SmidgenError as error:
            self._fail(ticket.key, error)
            return
        loaded = Loaded(ticket.model, ticket.options, need, ticket.keep_alive)
        self._loaded[ticket.key] = loaded
        self._loading = True
        self._start(self._load(ticket.key, loaded))

    def _has_room(self, need: int) -> bool:
        """Say whether a model can be loaded now; otherwise see to it that it can be later.

        Raises:
            OutOfResources: It is too large even alone.
        """
        if need > self._memory:
            raise OutOfResources(
                f"model requires more system memory ({need / 2**30:.1f} GiB) than is available "
                f"({self._memory / 2**30:.1f} GiB)"
            )
        held = sum(loaded.bytes for loaded in self._loaded.values())
        if len(self._loaded) < self._most and held + need <= self._memory:
            return True
        staying = [each for each in self._loaded.values() if each.closing is None and each.runner is not None]
        if len(staying) < len(self._loaded) or any(each.leaving for each in staying):
            return False  # one is on its way out already
        victim = min(staying, key=lambda loaded: (loaded.active > 0, loaded.keep_alive, loaded.expires_at))
        victim.leaving = True
        if victim.active == 0:
            self._begin_closing(victim)
        return False

    async def _load(self, key: _Key, loaded: Loaded) -> None:
        try:
            runner = await asyncio.to_thread(self._opener, loaded.model, loaded.options)
            if not runner.alive():
                raise EngineFailed(f"The engine of {loaded.model.name} ended as soon as it was loaded.")
        except SmidgenError as error:
            del self._loaded[key]
            self._fail(key, error)
        except Exception as error:
            del self._loaded[key]
            self._fail(key, EngineFailed(f"{loaded.model.name} cannot be loaded: {type(error).__name__}: {error}"))
        else:
            loaded.runner = runner
            loaded.bytes = max(loaded.bytes, runner.resident_bytes())
            loaded.expires_at = time.time() + loaded.keep_alive
        finally:
            self._loading = False
        self._dispatch()
        if loaded.runner is not None and loaded.active == 0 and loaded.closing is None:
            self._rest(loaded)  # whoever asked for it has left

    def _fail(self, key: _Key, error: SmidgenError) -> None:
        for ticket in [each for each in self._queue if each.key == key]:
            self._queue.remove(ticket)
            if not ticket.turn.done():
                ticket.turn.set_exception(error)

    def _begin_closing(self, loaded: Loaded) -> asyncio.Task[None]:
        self._stop_timer(loaded)
        loaded.leaving = True
        if loaded.closing is None:
            loaded.closing = self._start(self._close(loaded))
        return loaded.closing

    async def _close(self, loaded: Loaded) -> None:
        assert loaded.runner is not None
        try:
            await asyncio.to_thread(loaded.runner.close)
        finally:
            key = (loaded.model.name, loaded.options.purpose)
            if self._loaded.get(key) is loaded:
                del self._loaded[key]
        self._dispatch()

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
