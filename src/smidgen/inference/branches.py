"""Endings of many prompts scored together: what they begin alike with is read once, and many are read at a time.

Prompts and endings form a tree of tokens. Every leaf is a sequence of its own in the engine's memory, and a token that
several leaves pass through is read once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from smidgen.inference.llama_library import CHUNK

if TYPE_CHECKING:
    from smidgen.inference.llama_library import LlamaLibrary
    from smidgen.inference.torch_library import TorchLibrary

_ROWS = 4  # rows whose normaliser is computed at a time: so many stay in the processor's cache

Questions = Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]]
"""For each question its prompt and its endings, in tokens."""


@dataclass
class Leaf:
    """One ending behind its prompt.

    Attributes:
        path: The tokens that are read: the prompt, and the ending but its last token.
        ending: The tokens that are scored.
    """

    path: list[int]
    ending: list[int]


@dataclass
class Tree:
    """The tokens of several leaves, each once.

    Attributes:
        tokens: The tokens, those nearer to the root first.
        places: For each how many tokens stand before it.
        owners: For each the sequences that pass through it.
        leaves: The leaves, each with the nodes whose logits score its ending.
        sequences: How many sequences there are; leaves with the same path share one.
    """

    tokens: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    owners: list[list[int]] = field(default_factory=list)
    leaves: list[tuple[Leaf, list[int]]] = field(default_factory=list)
    sequences: int = 0
    _children: dict[tuple[int, int], int] = field(default_factory=dict)
    _known: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def missing(self, leaf: Leaf) -> int:
        """Return how many tokens a leaf would add."""
        node = -1
        for depth, token in enumerate(leaf.path):
            found = self._children.get((node, token))
            if found is None:
                return len(leaf.path) - depth
            node = found
        return 0

    def add(self, leaf: Leaf, begin: int) -> None:
        """Add a leaf behind ``begin`` tokens that all share."""
        known = self._known.get(tuple(leaf.path))
        if known is None:
            self.sequences += 1
            known, node = [], -1
            for depth, token in enumerate(leaf.path):
                found = self._children.setdefault((node, token), len(self.tokens))
                if found == len(self.tokens):
                    self.tokens.append(token)
                    self.places.append(begin + depth)
                    self.owners.append([])
                self.owners[found].append(self.sequences)
                known.append(found)
                node = found
            self._known[tuple(leaf.path)] = known
        self.leaves.append((leaf, known[len(known) - len(leaf.ending) :]))


def leaves_of(questions: Questions) -> list[Leaf]:
    """Return the endings of questions, each with what is read for it."""
    found: list[Leaf] = []
    for prompt, endings in questions:
        for ending in endings:
            found.append(Leaf([*prompt, *ending[:-1]], list(ending)))
    return found


def trees(leaves: Sequence[Leaf], begin: int, *, most_tokens: int, most_sequences: int) -> Iterator[Tree]:
    """Divide leaves into trees that are read at once, in their order.

    Args:
        leaves: The leaves, those that begin alike next to each other.
        begin: How many tokens stand before all.
        most_tokens: Most tokens of a tree of more than one leaf.
        most_sequences: Most leaves of a tree with paths of their own.

    Example:
        >>> (tree,) = trees(leaves_of([([5, 6], [[7, 8], [7, 9, 1]])]), 0, most_tokens=9, most_sequences=9)
        >>> tree.tokens, tree.places, tree.owners
        ([5, 6, 7, 9], [0, 1, 2, 3], [[1, 2], [1, 2], [1, 2], [2]])
    """
    tree = Tree()
    for leaf in leaves:
        full = tree.sequences == most_sequences or len(tree.tokens) + tree.missing(leaf) > most_tokens
        if tree.leaves and full:
            yield tree
            tree = Tree()
        tree.add(leaf, begin)
    if tree.leaves:
        yield tree


def score(
    library: LlamaLibrary | TorchLibrary, shared: Sequence[int], questions: Questions
) -> list[tuple[float, bool]]:
    """Return for each ending ln p of it, in nats, and whether every token of it is the likeliest.

    Args:
        library: The model.
        shared: Tokens before every prompt; kept for the next call.
        questions: The prompts with their endings.
    """
    library.hold(shared)
    room = min(CHUNK, library.context - len(shared))
    divided = trees(leaves_of(questions), len(shared), most_tokens=room, most_sequences=library.sequences - 1)
    return [value for tree in divided for value in _scored(library, tree)]


def _scored(library: LlamaLibrary | TorchLibrary, tree: Tree) -> list[tuple[float, bool]]:
    """Read a tree; return for each leaf, in their order, ln p of its ending and whether it is the likeliest."""
    rated, found = _rate(library, tree), []
    for leaf, nodes in tree.leaves:
        pairs = [rated[node][token] for node, token in zip(nodes, leaf.ending, strict=True)]
        found.append((math.fsum(value for value, _ in pairs), all(best for _, best in pairs)))
    return found


def _rate(library: LlamaLibrary | TorchLibrary, tree: Tree) -> dict[int, dict[int, tuple[float, bool]]]:
    """Read a tree; return for each node the tokens scored behind it: ln p, and whether it is the likeliest."""
    asked: dict[int, set[int]] = {}
    for leaf, nodes in tree.leaves:
        for node, token in zip(nodes, leaf.ending, strict=True):
            asked.setdefault(node, set()).add(token)
    found: dict[int, dict[int, tuple[float, bool]]] = {}
    library.share(tree.sequences)
    together = library.together or len(tree.tokens)
    for begin in range(0, len(tree.tokens), together):
        part = slice(begin, begin + together)
        wanted = [node in asked for node in range(len(tree.tokens))[part]]
        logits = library.read_shared(tree.tokens[part], tree.places[part], tree.owners[part], wanted)
        nodes = [begin + place for place, each in enumerate(wanted) if each]
        for node, row, best, normaliser in zip(nodes, logits, *_normalise(logits), strict=True):
            found[node] = {token: (float(row[token]) - normaliser, token == best) for token in asked[node]}
    library.drop(tree.sequences)
    return found


def _normalise(logits: NDArray[numpy.float32]) -> tuple[list[int], list[float]]:
    """Return each row's likeliest token and the logarithm of the sum of its exponentials.

    Example:
        >>> _normalise(numpy.log(numpy.array([[1, 4, 3]], numpy.float32)))[0]
        [1]
    """
    best, normalisers = [], []
    for begin in range(0, len(logits), _ROWS):
        rows = logits[begin : begin + _ROWS]
        top = rows.argmax(axis=1)
        highest = rows[numpy.arange(len(rows)), top]
        total = numpy.exp(rows - highest[:, None]).sum(axis=1, dtype=numpy.float64)
        best += top.tolist()
        normalisers += (highest + numpy.log(total)).tolist()
    return best, normalisers


def shared_beginning(prompts: Sequence[list[int]]) -> int:
    """Return how many first tokens all prompts share, at least one of each left over.

    Example:
        >>> shared_beginning([[1, 2, 3], [1, 2, 4]]), shared_beginning([[1, 2], [1, 2]])
        (2, 1)
    """
    shortest, longest = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    return next((place for place in range(most) if shortest[place] != longest[place]), most)
