"""Factors that must multiply to a product, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.documents.checks._arithmetic import Arithmetic

if TYPE_CHECKING:
    from smidgen.documents.checks import Values


@dataclass(frozen=True)
class Product(Arithmetic):
    """The factors multiply to the product, in every row that has all of them.

    Attributes:
        of: Paths of the factors, such as ``lines[].quantity``.
        equals: Path of the product.
        tolerance: Largest difference, in the product's unit.

    Example:
        >>> Product(("n", "price"), "amount").fault({"n": 2.0, "price": 3.5, "amount": 8.0})
        'n x price is 7.00, and amount is 8.00.'
    """

    def fault(self, values: Values) -> str | None:
        """Say where the factors do not multiply to the product."""
        columns = [values.get(path) for path in self.paths]
        rows = zip(*(each if isinstance(each, list) else [each] for each in columns), strict=False)
        for row in rows:
            if all(isinstance(each, (int, float)) for each in row):
                *factors, product = row
                found = math.prod(factors)
                if self.differs(found, product):
                    return f"{' x '.join(self.of)} is {found:.2f}, and {self.equals} is {product:.2f}."
        return None
