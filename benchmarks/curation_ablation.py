"""Question: what does it buy to clean a text before training on it, and does cleaning find what is there to find?

    python benchmarks/curation_ablation.py [--data FILE] [--tokens 15360] [--seeds 3] [--work FOLDER] [--json]

A text (``--data``, else the built-in one) is cut into passages and cleaned; what remains is known to be good. Into it
are planted exact copies (with other case and spaces), near copies (one word in a hundred changed), boilerplate (one
notice many times, and words of navigation), passages in German, French and Spanish, passages of mere repetition, and
lines repeated in place; ``--share`` says how many of each, as a share of the good passages. Then the same pruned model
is healed with the same count of tokens twice: of the text as it is now, and of what `smidgen.data.curation` leaves of
it. Each is done with forward KL against the source and with plain cross-entropy, and with several seeds, which plant
and draw anew. What is measured is the mean divergence of source ‖ result in nats per token and bits per byte on
held-out text that shares no passage with the rest. Stopped at any moment, the same command goes on: finished rows and
trainings under way are kept in ``--work``. The figures and what was decided from them stand in EXPERIMENTS.md.
"""

import argparse
import random
import re
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import _table
import torch
from _table import report

from smidgen.data import builtin
from smidgen.data.curation import Curation, describe
from smidgen.data.loading import load as load_data
from smidgen.data.packing import windows
from smidgen.data.rows import Corpus, Row
from smidgen.data.split import split
from smidgen.models.load import load
from smidgen.models.model import Model
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.prune.prune import Prune

LOSSES = ("soft_output", "hard_output")
TEXTS = ("raw", "curated")
FIGURES = ("kl_mean", "kl_mean_se", "same_top", "bits_per_byte")
CHARACTERS = 1_200
"""Length of a passage, about."""
KINDS = ("exact", "near", "boilerplate", "foreign", "repetition", "lines")
COPIES = 4
"""How often the same passage is copied: what is repeated on the web is repeated often."""
NOTICE = (
    "We and our partners store and access information on your device to show you what you may like, to measure what "
    "is read and to make our pages better. By going on you accept this; you can change your choice at any time."
)
NAVIGATION = ("Read more", "Home", "Next page", "Sign in", "Share this", "Comments (0)")
SENTENCES = {
    "de": (
        ("Der alte Lehrer", "Meine Nachbarin", "Ein junger Arzt", "Die Verkäuferin", "Unser Bürgermeister"),
        ("ging jeden Morgen", "kam am späten Abend", "fuhr im letzten Sommer", "lief nach der Arbeit"),
        ("durch den dunklen Wald", "über die lange Brücke", "zum Markt am Fluss", "in die nächste Stadt"),
        ("weil das Wetter so schön war.", "obwohl es stark regnete.", "um alte Freunde zu treffen.", "ohne ein Wort."),
    ),
    "fr": (
        ("Le vieux professeur", "Ma voisine", "Un jeune médecin", "La vendeuse du coin", "Notre maire"),
        ("marchait chaque matin", "rentrait tard le soir", "voyageait l'été dernier", "courait après le travail"),
        ("à travers la forêt sombre", "sur le grand pont", "vers le marché du village", "dans la ville voisine"),
        ("parce qu'il faisait beau.", "malgré la pluie.", "pour revoir ses vieux amis.", "sans dire un seul mot."),
    ),
    "es": (
        ("El viejo profesor", "Mi vecina", "Un médico joven", "La vendedora de la esquina", "Nuestro alcalde"),
        ("caminaba cada mañana", "volvía tarde por la noche", "viajó el verano pasado", "corría después del trabajo"),
        ("por el bosque oscuro", "sobre el puente largo", "hacia el mercado del pueblo", "a la ciudad vecina"),
        ("porque hacía buen tiempo.", "aunque llovía mucho.", "para ver a sus amigos.", "sin decir una palabra."),
    ),
}


@dataclass(frozen=True)
class Planted:
    """A text with what was put into it.

    Attributes:
        corpus: The rows in a random order; the origin of a good one is ``good N``, of a planted one its kind and ``N``.
        good: The good passages as they were.
        copied: Origin of a copy to the origin of what it copies.
    """

    corpus: Corpus
    good: dict[str, str]
    copied: dict[str, str]

    def caught(self, kept: Corpus) -> dict[str, dict[str, int]]:
        """Count for each kind what was planted and what of it is gone; ``good`` counts passages that are gone."""
        left = {row.origin: row.plain for row in kept.rows}
        planted = [row.origin for row in self.corpus.rows]
        found = {kind: {"planted": 0, "caught": 0} for kind in KINDS}
        for origin in planted:
            kind = origin.split()[0]
            if kind in KINDS:
                found[kind]["planted"] += 1
                found[kind]["caught"] += origin not in left
        groups: dict[str, list[str]] = {}
        for copy, original in self.copied.items():
            groups.setdefault(original, [original]).append(copy)
        for members in groups.values():  # of equals one stays, whichever came first
            staying = [member for member in members if member in left and member not in self.good]
            if staying and members[0] in self.good and members[0] not in left:
                found[staying[0].split()[0]]["caught"] += 1
        stuttering = [row.origin for row in self.corpus.rows if row.plain != self.good.get(row.origin, row.plain)]
        cleaned = sum(left.get(origin) == self.good[origin] for origin in stuttering)
        found["lines"] = {"planted": len(stuttering), "caught": cleaned}
        lost = sum(not {name, *groups.get(name, ())} & left.keys() for name in self.good)
        return found | {"good": {"planted": len(self.good), "caught": lost}}


def passages(corpus: Corpus) -> list[str]:
    """Cut texts at paragraphs into passages of about a page."""
    found = []
    for row in corpus.rows:
        parts: list[str] = []
        for paragraph in re.split(r"\n\s*\n", row.plain.strip()):
            parts.append(paragraph)
            if sum(map(len, parts)) >= CHARACTERS:
                found.append("\n\n".join(parts))
                parts = []
        if parts:
            found.append("\n\n".join(parts))
    return found


def plant(good: list[str], share: float, seed: int) -> Planted:
    """Put into a text what cleaning is to find.

    Args:
        good: Passages.
        share: How many of each kind, as a share of the passages.
        seed: Draws what is copied, and the order.
    """
    chance = random.Random(f"plant {seed}")
    each = max(1, round(share * len(good)))
    originals = {f"good {number}": text for number, text in enumerate(good)}
    rows = {name: Row(text, origin=name) for name, text in originals.items()}
    long = [name for name, text in originals.items() if len(text.split()) >= 60]
    drawn = iter(chance.sample(long, min(len(long), 2 * -(-each // COPIES) + each)))
    copied = {}
    for kind, change in (("exact", _retyped), ("near", _reworded)):
        chosen = [next(drawn) for _ in range(-(-each // COPIES))]
        for number in range(each):
            name, original = f"{kind} {number}", chosen[number // COPIES]
            rows[name] = Row(change(originals[original], chance), origin=name)
            copied[name] = original
    for number in range(each):
        notice = number % 2 == 0
        name = f"boilerplate {number}"
        rows[name] = Row(NOTICE if notice else chance.choice(NAVIGATION), origin=name)
        if notice and number:
            copied[name] = "boilerplate 0"
        rows[f"foreign {number}"] = Row(_foreign(chance), origin=f"foreign {number}")
        phrase = " ".join(chance.sample(good[number % len(good)].split(), 4))
        rows[f"repetition {number}"] = Row(f"{phrase} {number} " * 40, origin=f"repetition {number}")
    for name in drawn:
        rows[name] = replace(rows[name], text=_stuttered(originals[name], chance))
    order = list(rows.values())
    chance.shuffle(order)
    return Planted(Corpus("text with what was planted", tuple(order)), originals, copied)


def _retyped(text: str, chance: random.Random) -> str:
    return chance.choice((text.upper(), text.replace(" ", "  "), text + "\n", text))


def _reworded(text: str, chance: random.Random) -> str:
    pieces = re.split(r"(\s+)", text)
    for _ in range(max(1, len(pieces) // 200)):
        pieces[chance.randrange(0, len(pieces), 2)] = f"item{chance.randrange(1000)}"
    return "".join(pieces)


def _foreign(chance: random.Random) -> str:
    parts = SENTENCES[chance.choice(sorted(SENTENCES))]
    return " ".join(" ".join(chance.choice(part) for part in parts) for _ in range(12))


def _stuttered(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    able = [number for number, line in enumerate(lines) if re.search(r"\w", line)]
    number = chance.choice(able)
    lines[number : number + 1] = [lines[number]] * chance.randrange(4, 12)
    return "\n".join(lines)


class Bench:
    """One run: its start, its texts, its folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        training, self.held_out = (builtin.calibration(), builtin.held_out())
        if asked.data:
            training, self.held_out = split(load_data(asked.data))
        self.curation = Curation(languages=("en",))
        self.texts: dict[int, dict[str, Corpus]] = {}
        whole = Corpus(training.name, tuple(Row(text) for text in passages(training)))
        clean, _ = describe(whole, self.curation, held_out=self.held_out, progress=report)
        self.good = [row.plain for row in clean.rows]
        self.source = load(asked.model, progress=report)
        self.steps = _table.steps_of(asked)
        judged = windows(builtin.calibration(), self.source.tokenizer, length=asked.length, count=asked.calibration)
        self.start: Model = Prune("layer", criterion="block_influence", keep=asked.keep).apply(
            self.source, judged, progress=report
        )
        origin = [self.source.lineage.origin.sha256, list(self.start.lineage.kept_layers or ())]
        names = ("model", "tokens", "keep", "batch", "length", "rate", "windows", "share")
        texts = [clean.sha256, self.held_out.sha256]
        self.rows = _table.Rows(asked, names, {"start": origin, "text": texts})

    def cleaning(self, seed: int) -> dict[str, Any]:
        """Return what was planted and caught, and keep both texts; takes no model."""
        planted = plant(self.good, self.asked.share, seed)
        began = time.perf_counter()
        kept, sheet = describe(planted.corpus, self.curation, held_out=self.held_out, progress=report)
        self.texts[seed] = {"raw": planted.corpus, "curated": kept}
        found = {"seed": seed, "rows": sheet.rows, "characters": sheet.characters, "kinds": planted.caught(kept)}
        return found | {"seconds": time.perf_counter() - began}

    def row(self, text: str, loss: str, seed: int) -> dict[str, Any]:
        """Return the figures of one training, measured now or by an earlier run."""
        key = self.rows.key(text, loss, seed)
        return self.rows.once(key, lambda: self.measured(text, loss, seed, key))

    def measured(self, text: str, loss: str, seed: int, key: str) -> dict[str, Any]:
        """Train and measure; without a loss the start as it is."""
        began, model, distinct = time.perf_counter(), self.start, 0
        if loss:
            rows, distinct = self.training(text, seed)
            options = {"learning_rate": self.asked.rate, "batch_size": self.asked.batch, "patience": 0, "seed": seed}
            distill = Distill(steps=self.steps, losses={loss: 1.0}, **options)
            model = self.rows.train(key, distill, self.start, self.source, rows).model
        figures = _table.measure(self.source, model, FIGURES, self.asked.windows, self.held_out)
        found = {"text": text, "loss": loss, "seed": seed, **figures, "distinct_windows": distinct}
        return found | {"seconds": time.perf_counter() - began}

    def training(self, text: str, seed: int) -> tuple[torch.Tensor, int]:
        """Return the rows to train on, as many for either text, and how many of them are not repeated."""
        found = windows(self.texts[seed][text], self.source.tokenizer, length=self.asked.length, seed=seed)
        wanted = self.steps * self.asked.batch
        return found[torch.arange(wanted) % len(found)], min(wanted, len(found))


def measured(bench: Bench) -> list[dict[str, Any]]:
    """Count what was caught, then train on both texts by every loss with every seed."""
    asked = bench.asked
    seeds = range(asked.seeds)
    found: list[dict[str, Any]] = [{"cleaning": bench.cleaning(seed)} for seed in seeds]
    found.append(bench.row("", "", 0))
    for seed in seeds:
        found += [bench.row(text, loss, seed) for loss in asked.loss or LOSSES for text in TEXTS]
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay the figures out as Markdown: what was caught, then what it bought."""
    cleaned = [row["cleaning"] for row in rows if "cleaning" in row]
    lines = ["| planted | rows | found |", "|---|---|---|"]
    for kind in (*KINDS, "good"):
        counts = [each["kinds"][kind] for each in cleaned]
        total, caught = (sum(each[name] for each in counts) for name in ("planted", "caught"))
        name = "nothing (good passages removed)" if kind == "good" else kind
        lines.append(f"| {name} | {total:,} | {caught:,} ({caught / max(1, total):.1%}) |")
    trained = [row for row in rows if row.get("loss")]
    (start,) = (row for row in rows if row.get("loss") == "")
    lines += ["", "| healed with | on | KL | same top | bits per byte |", "|---|---|---|---|---|"]
    lines.append(f"| nothing | | {start['kl_mean']:.4f} | {start['same_top']:.1%} | {start['bits_per_byte']:.4f} |")
    for loss in dict.fromkeys(row["loss"] for row in trained):
        for text in TEXTS:
            runs = [row for row in trained if (row["loss"], row["text"]) == (loss, text)]
            kl, top, bits = (_spread([row[name] for row in runs]) for name in ("kl_mean", "same_top", "bits_per_byte"))
            lines.append(f"| {loss} | {text} | {kl} | {top} | {bits} |")
        pairs = [
            [row["bits_per_byte"] for text in TEXTS for row in trained if _is(row, loss, text, seed)]
            for seed in sorted({row["seed"] for row in trained})
        ]
        lines.append(
            f"| {loss} | curated − raw, seed by seed | | | {_spread([after - before for before, after in pairs])} |"
        )
    return lines


def _is(row: dict[str, Any], loss: str, text: str, seed: int) -> bool:
    return (row["loss"], row["text"], row["seed"]) == (loss, text, seed)


def _spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = _table.parser("Heal on a text as it is and as curation leaves it.", "smidgen-curation-ablation")
    parser.add_argument("--data", help="text to train on and to measure on, divided; the built-in one where not given")
    parser.add_argument("--share", type=float, default=0.15, help="of each kind of junk, as a share of the passages")
    parser.add_argument("--keep", type=int, default=26, help="layers that stay")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--loss", choices=LOSSES, action="append", help="only this one; may be repeated")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for."""
    asked = arguments(words)
    return _table.run(asked, lambda: measured(Bench(asked)), table)


if __name__ == "__main__":
    raise SystemExit(main())
