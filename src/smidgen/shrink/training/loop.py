"""The one training loop. Every way of training hands it a module, rows and a loss.

The number of steps is decided before the start and the clock decides nothing inside, so the same call gives the
same weights on the same machine and thread count, whether it was killed in between or not.
"""

from __future__ import annotations

import fnmatch
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smidgen import heap
from smidgen.errors import InvalidInput
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.precision import autocast, working_type
from smidgen.shrink.training.checkpoints import Checkpoints
from smidgen.shrink.training.overfitting import Curves, Watch
from smidgen.shrink.training.schedule import Schedule, rows_of_step, seed_of

if TYPE_CHECKING:
    import torch

Loss = Callable[[Any, "torch.Tensor", int], "tuple[torch.Tensor, int]"]
"""Called with the module, row numbers int64 ``[rows]`` and the step; returns the mean loss and its count of tokens."""

Evaluate = Callable[[Any], float]
"""Called with the module in evaluation mode, without gradients; returns the held-out loss."""


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        steps: Optimizer steps.
        learning_rate: Its peak.
        batch_size: Rows per optimizer step.
        accumulation: Parts a step's rows are computed in, for less memory.
        warmup: Share of the steps in which the rate rises.
        schedule: ``cosine``, ``linear`` or ``constant`` after it.
        floor: Last rate as a share of the peak.
        weight_decay: Decoupled decay of matrices; vectors have none.
        clip: Largest norm of all gradients together.
        trainable: ``all``, ``norms``, or name patterns as ``("*.mlp.*",)``.
        seed: Of the rows' order and everything random.
        evaluate_every: Steps between looks at the held-out loss; 0: eight times in all.
        patience: Looks without improvement before training stops; 0 never stops.
        keep_zeros: Whether weights of matrices that are exactly zero stay so, as single weights that were pruned must.
    """

    steps: int
    learning_rate: float = 1e-4
    batch_size: int = 8
    accumulation: int = 1
    warmup: float = 0.05
    schedule: str = "cosine"
    floor: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    trainable: str | tuple[str, ...] = "all"
    seed: int = 0
    evaluate_every: int = 0
    patience: int = 3
    keep_zeros: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise InvalidInput(
                    f"A training's {name.replace('_', ' ')} must be at least 1, not {getattr(self, name)}."
                )
        for name in ("learning_rate", "clip"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise InvalidInput(f"A training's {name.replace('_', ' ')} must be above 0.")
        if self.accumulation > self.batch_size:
            raise InvalidInput(f"{self.batch_size} rows cannot be computed in {self.accumulation} parts.")
        self.rates()

    def rates(self) -> Schedule:
        """Return the learning rate's schedule."""
        return Schedule(self.steps, self.learning_rate, self.warmup, self.schedule, self.floor)

    @property
    def between_looks(self) -> int:
        """Steps between two evaluations."""
        return self.evaluate_every or max(1, math.ceil(self.steps / 8))


@dataclass(frozen=True)
class TrainingResult:
    """What a training did; the module itself holds the weights.

    Attributes:
        steps: Steps done, fewer than asked when the watch stopped it.
        tokens: Tokens trained on in this process.
        tokens_per_second: Of them, without evaluations and checkpoints; 0 where all was done before.
        curves: Loss of training and of held-out rows.
    """

    steps: int
    tokens: int
    tokens_per_second: float
    curves: Curves


def device() -> torch.device:
    """Return where training runs: the fastest device that accelerate finds, the CPU without one."""
    from accelerate import PartialState

    found: torch.device = PartialState().device
    return found


def trainable_names(module: Any, trainable: str | tuple[str, ...]) -> list[str]:
    """Return the names of the parameters a choice means.

    Args:
        module: Any torch module.
        trainable: ``all``; ``norms``: the vectors of normalisation layers; else patterns of names.

    Raises:
        InvalidInput: Nothing is left to train.
    """
    everything = [name for name, _ in module.named_parameters()]
    if trainable == "all":
        return everything
    if trainable == "norms":
        kinds = {name: type(part).__name__.lower() for name, part in module.named_modules()}
        chosen = [name for name in everything if "norm" in kinds[name.rpartition(".")[0]]]
    else:
        patterns = (trainable,) if isinstance(trainable, str) else trainable
        chosen = [name for name in everything if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise InvalidInput(
            f"No parameter of the model is meant by {trainable!r}.",
            remedy=f"Say 'all', 'norms' or patterns of names such as {everything[-1]!r}.",
        )
    return chosen


def narrow_frozen(module: Any, frozen: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    """Hold frozen matrices of linear layers in the type that multiplies fastest; return what they held.

    An embedding, and a head tied to it, stay as they are: the residual stream keeps its precision.
    """
    import torch

    working = working_type() if next(module.parameters()).device.type == "cpu" else torch.bfloat16
    linear = {f"{path}.weight" for path, part in module.named_modules() if isinstance(part, torch.nn.Linear)}
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, torch.nn.Embedding)}
    held = {}
    for name, parameter in module.named_parameters():
        if name in linear and id(parameter) not in embeddings and frozen(name) and parameter.dtype != working:
            held[name] = parameter.data
            parameter.data = parameter.data.to(working)
    return held


@heap.reused()
def train(
    module: Any,
    rows: int,
    loss: Loss,
    settings: Training,
    *,
    checkpoints: Checkpoints | None = None,
    evaluate: Evaluate | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Train a module in place; with `evaluate` it ends with the weights that were best on held-out rows.

    Args:
        module: The torch module, on the device where it is to be trained.
        rows: Rows there are to train on.
        loss: Computes the mean loss of some rows.
        settings: How.
        checkpoints: Where the state is kept, so that the same call goes on after a kill.
        evaluate: Held-out loss.
        progress: Receives one event per step; raising from it keeps the state and stops.

    Raises:
        InvalidInput: There are no rows, or the loss stopped being a number.
    """
    if rows < 1:
        raise InvalidInput("There is nothing to train on.", remedy="Give more text.")
    if checkpoints is not None:
        checkpoints = replace(checkpoints, key=json.dumps([checkpoints.key, rows, asdict(settings)]))
    with _prepared(module, settings) as weights:
        run = _Run(module, rows, loss, settings, weights)
        first = checkpoints.restore(weights, run.optimizer, run.watch, progress) if checkpoints else 0
        run.first = run.done = first
        if evaluate is not None and not run.watch.held_out:
            run.look(evaluate)
        while run.done < settings.steps and not run.watch.exhausted:
            run.step()
            if evaluate is not None and (run.done % settings.between_looks == 0 or run.done == settings.steps):
                run.look(evaluate)
            _report(run, checkpoints, progress)
        for name, weight in run.watch.best.items():
            weights[name].data.copy_(weight)
        curves = replace(run.watch.curves(run.done), stopped_early=run.done < settings.steps)
        return TrainingResult(run.done, run.tokens, run.tokens_per_second, curves)


@heap.reused()
def measure_throughput(module: Any, rows: int, loss: Loss, settings: Training, *, steps: int = 2) -> float:
    """Return tokens per second of real steps after one for warming up; the weights end as they were.

    Args:
        module: The torch module.
        rows: Rows there are.
        loss: As for `train`.
        settings: As for `train`; its own count of steps does not matter.
        steps: How many are timed.
    """
    with _prepared(module, replace(settings, steps=steps + 1)) as weights:
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        run = _Run(module, rows, loss, settings, weights)
        run.step()
        run.tokens, run.seconds = 0, 0.0
        for _ in range(steps):
            run.step()
        for name, weight in weights.items():
            weight.data.copy_(before[name])
        return run.tokens_per_second


class _Run:
    """A training under way."""

    def __init__(
        self, module: Any, rows: int, loss: Loss, settings: Training, weights: Mapping[str, torch.nn.Parameter]
    ) -> None:
        self.module, self.rows, self.loss, self.settings, self.weights = module, rows, loss, settings, weights
        self.optimizer = _optimizer(weights, settings)
        self.schedule = settings.rates()
        self.watch = Watch(settings.patience)
        matrices = {name: weight for name, weight in weights.items() if settings.keep_zeros and weight.dim() > 1}
        self.zeros = {name: weight.detach() == 0 for name, weight in matrices.items()}
        self.first = self.done = 0
        self.tokens, self.seconds = 0, 0.0
        self.latest = math.nan

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def step(self) -> None:
        """Take one optimizer step."""
        import torch

        started = time.perf_counter()
        settings, parameters = self.settings, list(self.weights.values())
        device = parameters[0].device.type
        self.module.train()
        chosen = rows_of_step(self.rows, settings.batch_size, settings.seed, self.done)
        parts = chosen.chunk(settings.accumulation)
        total, count = 0.0, 0
        with torch.random.fork_rng(device_type=device if device != "cpu" else "cuda"):
            torch.manual_seed(seed_of(settings.seed, self.done))
            for part in parts:
                with autocast(device):
                    mean, tokens = self.loss(self.module, part, self.done)
                # A part's gradient weighs as many tokens as it has; one part alone needs no weighing.
                torch.autograd.backward(mean * tokens if len(parts) > 1 else mean)
                total, count = total + float(mean.detach()) * tokens, count + tokens
        if len(parts) > 1:
            torch._foreach_mul_([each.grad for each in parameters if each.grad is not None], 1 / max(1, count))
        self.latest = total / max(1, count)
        self._update(parameters)
        self.done += 1
        self.watch.take(self.latest)
        self.tokens, self.seconds = self.tokens + count, self.seconds + time.perf_counter() - started

    def _update(self, parameters: list[torch.nn.Parameter]) -> None:
        import torch

        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip))
        if not (math.isfinite(self.latest) and math.isfinite(norm)):
            raise InvalidInput(
                f"The training's loss is not a number any more at step {self.done + 1}.",
                remedy=f"Lower the learning rate (now {self.settings.learning_rate:g}).",
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.done)
        self.optimizer.step()
        for name, zero in self.zeros.items():
            self.weights[name].data.masked_fill_(zero, 0.0)
        self.optimizer.zero_grad(set_to_none=True)

    def look(self, evaluate: Evaluate) -> None:
        """Take the held-out loss into the watch."""
        import torch

        self.module.eval()
        with torch.no_grad(), autocast(next(iter(self.weights.values())).device.type):
            held_out = float(evaluate(self.module))
        self.watch.observe(self.done, held_out, self.weights)


def _report(run: _Run, checkpoints: Checkpoints | None, progress: Progress) -> None:
    held_out = f", held out {run.watch.held_out[-1][1]:.4f}" if run.watch.held_out else ""
    note = f"loss {run.latest:.4f}{held_out}, {run.tokens_per_second:.0f} tokens/s"
    try:
        progress(Event("training", run.done, run.settings.steps, "steps", note))
    except BaseException:
        if checkpoints is not None:
            checkpoints.save(run.done, run.weights, run.optimizer, run.watch)
        raise
    if checkpoints is not None and run.done < run.settings.steps and checkpoints.due(run.done):
        checkpoints.save(run.done, run.weights, run.optimizer, run.watch)


def _optimizer(weights: Mapping[str, torch.nn.Parameter], settings: Training) -> torch.optim.Optimizer:
    import torch

    matrices = [weight for weight in weights.values() if weight.dim() > 1]
    vectors = [weight for weight in weights.values() if weight.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    fused = next(iter(weights.values())).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=(0.9, 0.95), fused=fused
    )


@contextmanager
def _prepared(module: Any, settings: Training) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Make the chosen parameters float32 and trainable, the others narrow and frozen; undo that at the end."""
    names = set(trainable_names(module, settings.trainable))
    parameters = dict(module.named_parameters())
    flags = {name: parameter.requires_grad for name, parameter in parameters.items()}
    types = {name: parameters[name].dtype for name in names}
    training = module.training
    held: dict[str, torch.Tensor] = {}
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in names)
            if name in names:
                parameter.data = parameter.data.float()
        held = narrow_frozen(module, lambda name: name not in names)
        yield {name: parameter for name, parameter in parameters.items() if name in names}
    finally:
        for name, parameter in parameters.items():
            parameter.grad = None
            parameter.data = held.get(name, parameter.data).to(types.get(name, held.get(name, parameter.data).dtype))
            parameter.requires_grad_(flags[name])
        module.train(training)
