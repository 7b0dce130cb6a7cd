"""When a card is to be asked again: SM-2 (Wozniak 1990), kept in one JSON file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.models.files import atomic_write

LEAST_EASE, FIRST_EASE = 1.3, 2.5


@dataclass(frozen=True)
class Card:
    """A word to be learned.

    Attributes:
        word: The word.
        meaning: What it means, in a few words.
        exercise: A sentence with a gap for it.
        ease: How fast its intervals grow.
        interval: Days until it is asked again.
        repetitions: Times it was known in a row.
        due: The day it is next asked, as 2026-11-23.
    """

    word: str
    meaning: str = ""
    exercise: str = ""
    ease: float = FIRST_EASE
    interval: int = 0
    repetitions: int = 0
    due: str = ""

    def graded(self, grade: int, day: datetime.date) -> Card:
        """Return the card after an answer.

        Args:
            grade: 0 (forgotten) to 5 (at once); below 3 the card begins anew.
            day: The day of the answer.

        Raises:
            InvalidInput: There is no such grade.

        Example:
            >>> card = Card("brisk").graded(5, datetime.date(2026, 1, 1)).graded(4, datetime.date(2026, 1, 2))
            >>> card.due, card.interval, round(card.ease, 2)
            ('2026-01-08', 6, 2.6)
        """
        if not 0 <= grade <= 5:
            raise InvalidInput(f"The grade {grade} is not possible.", remedy="Give 0 (forgotten) to 5 (known at once).")
        ease = max(LEAST_EASE, self.ease + 0.1 - (5 - grade) * (0.08 + (5 - grade) * 0.02))
        repetitions = self.repetitions + 1 if grade >= 3 else 0
        steps = {0: 1, 1: 1, 2: 6}
        interval = steps[repetitions] if repetitions in steps else max(self.interval + 1, round(self.interval * ease))
        due = (day + datetime.timedelta(days=interval)).isoformat()
        return replace(self, ease=ease, interval=interval, repetitions=repetitions, due=due)


class Deck:
    """Cards in a file.

    Args:
        path: The file; it need not be there yet.

    Raises:
        DamagedFile: It holds something else.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        self.cards: dict[str, Card] = {}
        if self.path.is_file():
            try:
                rows: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))["cards"]
                self.cards = {row["word"]: Card(**row) for row in rows}
            except (ValueError, TypeError, KeyError) as error:
                raise DamagedFile(f"{self.path} is no deck of cards: {error}.", remedy="Name another file.") from None

    def add(self, cards: Iterable[Card], day: datetime.date) -> int:
        """Add new cards, due at once; those that are there stay as they are. Returns how many were new."""
        new = [replace(card, due=day.isoformat()) for card in cards if card.word not in self.cards]
        self.cards |= {card.word: card for card in new}
        return len(new)

    def grade(self, grades: Mapping[str, int], day: datetime.date) -> None:
        """Take in how well words were known.

        Raises:
            ReferenceNotFound: The deck has no such word.
        """
        for word, grade in grades.items():
            if word not in self.cards:
                raise ReferenceNotFound.among("card", word, self.cards)
            self.cards[word] = self.cards[word].graded(grade, day)

    def due(self, day: datetime.date) -> list[Card]:
        """Return the cards that are to be asked on a day, the longest overdue first."""
        return sorted((card for card in self.cards.values() if card.due <= day.isoformat()), key=lambda card: card.due)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        content = json.dumps({"cards": [asdict(card) for card in self.cards.values()]}, indent=1, ensure_ascii=False)
        atomic_write(self.path, content + "\n")
