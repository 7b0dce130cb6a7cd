"""Which tokens a language needs.

How it is decided. A token is admitted if each of its letters belongs to the language: to its script (Unicode), and
in languages of the Latin script to its alphabet as well; tokens without letters (digits, punctuation, signs) are
admitted in any language. First come single characters of ASCII and punctuation; then tokens by how often the text at
hand uses them, which is the user's or else the built-in one, and for English the docstrings of Python's standard
library too; then all admitted ones by two signs: the order in which merging makes them, which is about that of their
frequency where the tokenizer was trained, and whether the model itself takes them for words of the language. That is
read off their embeddings by a linear classifier that learns from the tokens in use and from those that are not
admitted, and tells words of other languages that are written with the same letters. Of these as many stay as asked;
where nothing is asked 49,152 or a fifth of the vocabulary, whichever is more, the sizes that models of one language
have.

A language is named by its ISO 639-1 code, a script by its Unicode name. Other languages still encode: into more
tokens, down to single bytes.
"""

from __future__ import annotations

import ast
import math
import sysconfig
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput, ReferenceNotFound

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from smidgen.models.model import Model
    from smidgen.shrink.prune.structures._bpe import Merges

ENOUGH, RIDGE = 200, 10.0
"""Examples of each side that the classifier needs, and the weight that keeps it small."""

FIRST_MERGES, LIKENESS = 1000, 2.0
"""Merges whose order says nothing about frequency, and how much an embedding's sign counts beside that order."""

OWN_VOCABULARY = 49152
SHARE = 5
_BATCH = 256

LATIN = {
    "cs": "áčďéěíňóřšťúůýž",
    "da": "æøå",
    "de": "äöüß",
    "en": "",
    "es": "áéíñóúü",
    "et": "äõöüšž",
    "fi": "äöå",
    "fr": "àâæçèéêëîïôœùûüÿ",
    "hr": "čćđšž",
    "hu": "áéíóöőúüű",
    "id": "",
    "it": "àèéìíîòóùú",
    "lt": "ąčęėįšųūž",
    "lv": "āčēģīķļņšūž",
    "nl": "áéëïóöü",
    "no": "æøå",
    "pl": "ąćęłńóśźż",
    "pt": "àáâãçéêíóôõúü",
    "ro": "ăâîșşțţ",
    "sk": "áäčďéíĺľňóôŕšťúýž",
    "sl": "čšž",
    "sv": "äåö",
    "tr": "âçğıİöşü",
    "vi": "àáâãèéêìíòóôõùúýăđĩũơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
}
"""Letters beside a to z of languages of the Latin script."""

SCRIPTS = {
    "ar": ("ARABIC",),
    "be": ("CYRILLIC",),
    "bg": ("CYRILLIC",),
    "bn": ("BENGALI",),
    "el": ("GREEK",),
    "fa": ("ARABIC",),
    "gu": ("GUJARATI",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "hy": ("ARMENIAN",),
    "ja": ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "CJK"),
    "ka": ("GEORGIAN",),
    "kn": ("KANNADA",),
    "ko": ("HANGUL",),
    "ml": ("MALAYALAM",),
    "mr": ("DEVANAGARI",),
    "pa": ("GURMUKHI",),
    "ru": ("CYRILLIC",),
    "sr": ("CYRILLIC",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
    "uk": ("CYRILLIC",),
    "ur": ("ARABIC",),
    "zh": ("CJK", "BOPOMOFO"),
}
"""Scripts of languages that are written in others, as Unicode's character names begin."""


@dataclass(frozen=True)
class Alphabet:
    """The letters of some languages.

    Attributes:
        letters: Letters, in lower case.
        scripts: Beginnings of the Unicode names of further ones.
        english: Whether English is among the languages.

    Example:
        >>> german = Alphabet.of("de")
        >>> german.admits(" Straße,"), german.admits("été"), german.admits("улица"), german.admits("3.14")
        (True, False, False, True)
    """

    letters: frozenset[str]
    scripts: frozenset[str]
    english: bool = False

    @classmethod
    def of(cls, names: str) -> Alphabet:
        """Take together the letters of languages and scripts, named with commas between.

        Raises:
            ReferenceNotFound: A name is neither.
        """
        letters: set[str] = set()
        scripts: set[str] = set()
        chosen = [name.strip() for name in names.split(",") if name.strip()]
        for name in chosen:
            code = name.lower()
            if code in LATIN:
                letters.update("abcdefghijklmnopqrstuvwxyz" + LATIN[code])
            elif code in SCRIPTS:
                scripts.update(SCRIPTS[code])
            elif name.upper() in known_scripts():
                scripts.add(name.upper())
            else:
                known = [*LATIN, *SCRIPTS, *(script.capitalize() for script in known_scripts())]
                raise ReferenceNotFound.among("language or script", name, known)
        if not chosen:
            raise InvalidInput("No language is named.", remedy="As in: en, or de,fr, or Cyrillic.")
        return cls(frozenset(letters), frozenset(scripts), "en" in {name.lower() for name in chosen})

    def admits(self, text: str) -> bool:
        """Whether every letter and mark of a text belongs to these languages."""
        return all(map(self._has, text))

    def _has(self, character: str) -> bool:
        if not (character.isalpha() or unicodedata.category(character)[0] == "M"):
            return character != "\ufffd"
        return character.lower() in self.letters or _script(character) in self.scripts


@cache
def _script(character: str) -> str:
    return unicodedata.name(character, "?").partition(" ")[0]


@cache
def known_scripts() -> frozenset[str]:
    """Return the first word of every letter's Unicode name, of alphabets with more than a few letters."""
    from collections import Counter

    found = Counter(_script(chr(number)) for number in range(0x20000) if chr(number).isalpha())
    return frozenset(name for name, count in found.items() if count >= 20 and name.isalpha())


def default_keep(rows: int) -> int:
    """Return how many of a vocabulary's tokens stay for one language where nobody says.

    Example:
        >>> default_keep(262144), default_keep(128256)
        (52428, 49152)
    """
    return max(OWN_VOCABULARY, rows // SHARE)


def token_scores(model: Model, names: str, use: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Score every token by how much some languages need it.

    Args:
        model: The model.
        names: Languages and scripts.
        use: How often the text at hand holds each token, ``[vocabulary]``.

    Returns:
        float64 scores ``[vocabulary]`` above 0 for tokens that are admitted or used, and how many those are.
    """
    import torch

    from smidgen.shrink.prune.structures._bpe import Merges

    alphabet, merges = Alphabet.of(names), Merges(model.tokenizer)
    counts = torch.zeros(model.anatomy.vocabulary_size, dtype=torch.float64)
    counts[: len(use)] += use.double()
    if alphabet.english:
        counts += _use_of(_docstrings(), model.tokenizer, len(counts))
    spelled = {number: text for number, text in _spelled(model.tokenizer, merges).items() if number < len(counts)}
    likeness = _likeness_of(model, alphabet, spelled, counts)
    rank, last = merges.token_rank, len(merges.pairs)
    scores = torch.zeros_like(counts)
    for number, text in spelled.items():
        if not (alphabet.admits(text) or counts[number] > 0):
            continue
        # Below one use stand those that no text at hand used.
        unused = LIKENESS * float(likeness[number]) - math.log(rank.get(number, last) + FIRST_MERGES)
        scores[number] = counts[number] + 0.9 / (1 + math.exp(-0.2 * (unused + 10))) + (1e9 if _is_sign(text) else 0.0)
    return scores, int((scores > 0).sum())


def _likeness_of(model: Model, alphabet: Alphabet, spelled: dict[int, str], counts: torch.Tensor) -> torch.Tensor:
    """Say for every token how much the model takes it for one of the language, ``[vocabulary]``, about −1 to 1."""
    import torch

    worded = {number: text for number, text in spelled.items() if any(map(str.isalpha, text))}
    ours = [number for number, text in worded.items() if counts[number] > 0 and alphabet.admits(text)]
    foreign = [number for number, text in worded.items() if counts[number] == 0 and not alphabet.admits(text)]
    if alphabet.letters and not alphabet.scripts:
        latin = [number for number in foreign if all(map(_is_latin, filter(str.isalpha, worded[number])))]
        foreign = latin if len(latin) >= ENOUGH else foreign
    if min(len(ours), len(foreign)) < ENOUGH:
        return torch.zeros(len(counts))
    embedding = model.weight(f"{model.anatomy.embedding}.weight").detach().float().cpu()
    return likeness(embedding, torch.tensor(ours), torch.tensor(foreign))


def likeness(embedding: torch.Tensor, ours: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Tell by their direction which embeddings are like some and unlike others.

    The least-squares fit of 1 for ours and −1 for the others, both sides weighing the same, by ridge regression.

    Args:
        embedding: ``[vocabulary, hidden]``.
        ours: Rows that are examples, int64.
        others: Rows that are examples of the contrary, int64.

    Returns:
        The fit's value for every row, ``[vocabulary]``.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.1], [2.0, -0.1], [-1.0, 0.1], [3.0, 0.0]]).repeat(100, 1)
        >>> bool(likeness(rows, torch.tensor([0, 1]), torch.tensor([2]))[3] > 0)
        True
    """
    import torch

    rows = embedding / embedding.norm(dim=1, keepdim=True).clamp_min(1e-6)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    chosen = rows[torch.cat([ours, others])]
    target = torch.cat([torch.ones(len(ours)), -torch.ones(len(others))])
    share = torch.cat([torch.full((len(ours),), 0.5 / len(ours)), torch.full((len(others),), 0.5 / len(others))])
    weighted = (chosen * (share * len(chosen))[:, None]).T
    fit = torch.linalg.solve(weighted @ chosen + RIDGE * torch.eye(rows.shape[1]), weighted @ target)
    found: torch.Tensor = rows @ fit
    return found


def _is_latin(character: str) -> bool:
    return _script(character) == "LATIN"


def _is_sign(text: str) -> bool:
    single = text.strip()
    return len(single) == 1 and (single.isascii() or unicodedata.category(single)[0] == "P")


def _spelled(tokenizer: PreTrainedTokenizerFast, merges: Merges) -> dict[int, str]:
    """Return the text of every token; bytes that are no whole character become U+FFFD."""
    decoder = tokenizer.backend_tokenizer.decoder
    return {number: decoder.decode([piece]) for number, piece in merges.text.items()}


def _use_of(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, size: int) -> torch.Tensor:
    """Count the tokens of some texts, ``[size]``."""
    import torch

    counts, texts = torch.zeros(size, dtype=torch.float64), list(texts)
    for first in range(0, len(texts), _BATCH):
        found = tokenizer(texts[first : first + _BATCH], add_special_tokens=False)["input_ids"]
        flat = torch.tensor([number for ids in found for number in ids], dtype=torch.long)
        counts += flat.bincount(minlength=size)
    return counts


@cache
def _docstrings() -> tuple[str, ...]:
    """Read the docstrings of the standard library's modules: about 900,000 characters of English."""
    found = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    found.append(text)
    return tuple(found)
