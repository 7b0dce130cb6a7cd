"""What the user allows: size, speed, quality to keep, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from smidgen.errors import RecipeError, SmidgenError
from smidgen.recipe.quantities import parse_duration, parse_share, parse_size, parse_speed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Budget:
    """A budget, understood.

    Attributes:
        fit: Largest size of ``model.gguf`` in bytes.
        speed: Least generation speed in tokens per second on this machine.
        keep: Least share kept, 0 to 1: of tokens whose top choice stays as the source's.
        within: Seconds the work may take.
    """

    fit: int | None = None
    speed: float | None = None
    keep: float | None = None
    within: float | None = None

    @classmethod
    def parse(
        cls,
        fit: str | int | None = None,
        speed: str | float | None = None,
        keep: str | float | None = None,
        within: str | float | None = None,
    ) -> Budget:
        """Understand what a person wrote, collecting every fault.

        Args:
            fit: "80MB", "1.5GiB"; an int counts bytes.
            speed: "20tok/s" or 20.
            keep: "95%" or 0.95.
            within: "4m", "90s"; a number counts seconds.

        Raises:
            RecipeError: Some of it cannot be understood, or neither size nor speed is limited.

        Example:
            >>> Budget.parse(fit="80MB", keep="95%").fit
            80000000
        """
        problems: list[str] = []

        def understood(value: Any, parser: Callable[..., Value], name: str) -> Value | None:
            if value is None:
                return None
            try:
                return parser(value, name=name)
            except SmidgenError as error:
                problems.append(str(error))
                return None

        budget = cls(
            fit=understood(f"{fit}B" if isinstance(fit, int | float) else fit, parse_size, "--fit"),
            speed=understood(speed, parse_speed, "--speed"),
            keep=understood(keep, parse_share, "--keep"),
            within=understood(f"{within}s" if isinstance(within, int | float) else within, parse_duration, "--within"),
        )
        if fit is None and speed is None:
            problems.append("A budget needs a size (--fit 80MB) or a speed (--speed 20tok/s), or both.")
        if problems:
            raise RecipeError(problems)
        return budget

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)
