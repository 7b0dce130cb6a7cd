"""Trees of prompts and endings: each token once, every ending found again, in any division."""

import random

import numpy
import pytest

from smidgen.inference.branches import leaves_of, score, trees


def questions(count):
    generator = random.Random(count)
    for number in range(count):
        prompt = [7, generator.randrange(3), *([number] * generator.randrange(1, 9))]
        yield prompt, [[generator.randrange(3) for _ in range(generator.randrange(1, 6))] for _ in range(4)]


@pytest.mark.parametrize(("most_tokens", "most_sequences"), [(512, 127), (40, 127), (512, 5), (1, 1)])
def test_every_ending_is_found_and_no_token_stands_twice(most_tokens, most_sequences):
    asked = list(questions(20))
    leaves, seen = leaves_of(asked), []
    for tree in trees(leaves, 3, most_tokens=most_tokens, most_sequences=most_sequences):
        assert tree.sequences <= most_sequences and (len(tree.tokens) <= most_tokens or tree.sequences == 1)
        paths = {tuple(leaf.path) for leaf, _ in tree.leaves}
        assert len(tree.tokens) == len({path[:end] for path in paths for end in range(1, len(path) + 1)})
        for leaf, nodes in tree.leaves:
            assert [tree.places[node] - 3 for node in nodes] == list(
                range(len(leaf.path) - len(leaf.ending), len(leaf.path))
            )
            own = set(tree.owners[nodes[-1]])
            through = [node for node, owners in enumerate(tree.owners) if own <= set(owners)]
            assert [tree.tokens[node] for node in through][: len(leaf.path)] == leaf.path
        seen += [leaf for leaf, _ in tree.leaves]
    assert len(seen) == 80 and all(one is other for one, other in zip(seen, leaves, strict=True))
    assert [leaf.ending for leaf in leaves] == [ending for _, endings in asked for ending in endings]


class Counting:
    """A library whose next token is always the likeliest by 1 nat where it is the last one plus 1."""

    sequences, context, vocabulary_size, together = 128, 512, 16, 60

    def __init__(self):
        self.read = self.held = 0

    def hold(self, ids):
        self.held += len(ids)

    def share(self, count):
        assert count < self.sequences

    def drop(self, count):
        pass

    def read_shared(self, ids, places, owners, wanted):
        self.read += len(ids)
        logits = numpy.zeros((len(ids), self.vocabulary_size), numpy.float32)
        logits[numpy.arange(len(ids)), numpy.array(ids) + 1] = 1
        return logits[numpy.array(wanted)]


def test_what_is_alike_is_read_once():
    library = Counting()
    found = score(library, [1, 2], [([3, 4], [[5, 6], [5, 7]]), ([3, 9], [[10]])])
    assert library.held == 2 and library.read == 4  # 3, 4, the 5 of both endings, and 9
    likeliest = 1 - numpy.log(15 + numpy.e)
    assert [value for value, _ in found] == pytest.approx([2 * likeliest, 2 * likeliest - 1, likeliest], abs=1e-6)
    assert [greedy for _, greedy in found] == [True, False, True]
