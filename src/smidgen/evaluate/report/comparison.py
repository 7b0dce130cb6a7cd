"""What the page of a comparison shows, worked out from its plain data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from smidgen.evaluate.findings import Finding, show_interval
from smidgen.evaluate.paired import mcnemar
from smidgen.evaluate.report import figures, pareto, words
from smidgen.evaluate.report.samples import Piece, compare

_ALIKE = 0.4
"""Share of words in common below which marking the others would mark everything."""

_LONGEST = 700  # characters of a question that the list of regressions shows


@dataclass(frozen=True)
class Shown:
    """A model as the page names it."""

    letter: str
    colour: str
    name: str
    label: str
    verdict: str
    chosen: bool
    failed: bool


def contents(plain: Mapping[str, Any], letters: Sequence[str]) -> dict[str, Any]:
    """Return every value that the template names.

    Args:
        plain: What `smidgen.evaluate.comparing.results.Comparison.to_dict` returns.
        letters: What stands for each model.
    """
    models = [_shown(plain, number, letter) for number, letter in enumerate(letters)]
    return {
        "title": f"{len(models)} models compared",
        "choice": figures.outline(plain),
        "wide": True,
        "headline": plain["headline"],
        "repeat": plain["repeated"],
        "warnings": plain["caveats"],
        "models": models,
        "rows": figures.rows(plain),
        "plots": pareto.draw_all(plain, letters),
        "prompts": [_prompt(plain, models, number) for number in range(len(plain["prompts"]))],
        "opinion": _opinion(plain, models),
        "regressions": _regressions(plain, models),
        "findings": _findings(plain, models),
        "how": _how(plain),
        "facts": _facts(plain, models),
        "command": _command(plain),
        "created": plain["created"],
        "smidgen": plain["smidgen"],
    }


def _shown(plain: Mapping[str, Any], number: int, letter: str) -> Shown:
    model = plain["models"][number]
    label = plain["labels"][number]
    return Shown(
        letter=letter,
        colour=pareto.colour_of(number),
        name=model["about"]["name"],
        label=label[:1].upper() + label[1:],
        verdict=plain["verdicts"][number],
        chosen=number == plain["choice"],
        failed=bool(model["error"]),
    )


def _prompt(plain: Mapping[str, Any], models: Sequence[Shown], number: int) -> dict[str, Any]:
    prompt = plain["prompts"][number]
    answers = [model["answers"][number] for model in plain["models"]]
    first = answers[0]["text"] if answers[0] else ""
    wanted = [*prompt["answers"], *([f"what matches {prompt['pattern']}"] if prompt["pattern"] else [])]
    return {
        "text": prompt["text"],
        "wanted": " or ".join(wanted),
        "answers": [
            _answer(shown, answer, first if place else None)
            for place, (shown, answer) in enumerate(zip(models, answers, strict=True))
        ],
    }


def _answer(shown: Shown, answer: Mapping[str, Any] | None, first: str | None) -> dict[str, Any]:
    who = {"letter": shown.letter, "colour": shown.colour, "name": shown.name}
    if answer is None:
        return {**who, "pieces": (), "right": None, "facts": "not answered"}
    pieces: tuple[Piece, ...] = (Piece(answer["text"], False),) if answer["text"] else ()
    facts = [f"{answer['tokens']} tokens"]
    rates = [rate for rate in answer["rates"] if rate]
    if rates:
        facts.insert(0, f"{words.number(sum(rates) / len(rates))} tokens/s")
    facts.append(f"first after {words.number(min(answer['first_ms']))} ms")
    if answer["reason"] == "length":
        facts.append("cut at the limit")
    if first:
        found = compare({"prompt": "", "source": first, "result": answer["text"]})
        if found.alike == 1:
            facts.append("word for word as A")
        elif found.alike < _ALIKE:
            facts.append("few words of A’s")
        else:
            pieces = found.result
            facts.append(f"{words.share(found.alike)} of the words as A")
    return {**who, "pieces": pieces, "right": answer["right"], "facts": " · ".join(facts)}


def _opinion(plain: Mapping[str, Any], models: Sequence[Shown]) -> dict[str, Any] | None:
    opinion = plain["opinion"]
    if opinion is None:
        return None
    counts = {pair: [0, 0, 0] for pair in combinations(range(len(models)), 2)}
    for duel in opinion["duels"]:
        counts[duel["first"], duel["second"]][int(2 - 2 * duel["points"])] += 1

    def cell(row: int, column: int) -> str:
        if row == column:
            return "—"
        won, tied, lost = counts[min(row, column), max(row, column)]
        return f"{won} : {tied} : {lost}" if row < column else f"{lost} : {tied} : {won}"

    rows = [
        {"model": models[row], "cells": [cell(row, column) for column in range(len(models))]}
        for row in range(len(models))
    ]
    return {"judge": opinion["judge"], "agreed": opinion["agreed"], "pairs": len(opinion["duels"]), "rows": rows}


def _regressions(plain: Mapping[str, Any], models: Sequence[Shown]) -> list[dict[str, Any]]:
    """Return for each model and task the questions that the first had right and it has not."""
    found = []
    for name, questions, scores in [*_asked_tasks(plain), *_asked_prompts(plain)]:
        base = scores[0]
        for model, own in zip(models[1:], scores[1:], strict=True):
            if base is None or own is None:
                continue
            pairs = [(one, two, each) for one, two, each in zip(base, own, questions, strict=True) if one is not None]
            lost = [each for one, two, each in pairs if two is not None and one > two]
            won = sum(two is not None and two > one for one, two, _ in pairs)
            whole = {one for one, _, _ in pairs} | {two for _, two, _ in pairs} <= {0, 1}
            p_value = mcnemar(len(lost), won) if whole else None
            entry = {
                "model": model,
                "task": name,
                "lost": lost,
                "won": won,
                "questions": len(pairs),
                "p_value": p_value,
            }
            found.append(entry)
    return found


def _asked_tasks(plain: Mapping[str, Any]) -> list[tuple[str, list[dict[str, str]], list[Any]]]:
    return [
        (
            task["name"],
            [
                {"text": _shortened(text), "right": " or ".join(right), "said": ""}
                for text, right in zip(task["questions"], task["right"], strict=True)
            ],
            task["scores"],
        )
        for task in plain["tasks"]
    ]


def _asked_prompts(plain: Mapping[str, Any]) -> list[tuple[str, list[dict[str, str]], list[Any]]]:
    scored = [number for number, each in enumerate(plain["prompts"]) if each["answers"] or each["pattern"]]
    if not scored:
        return []
    questions = [
        {
            "text": _shortened(plain["prompts"][number]["text"]),
            "right": " or ".join(plain["prompts"][number]["answers"]),
            "said": "",
        }
        for number in scored
    ]
    scores = []
    for model in plain["models"]:
        answers = [model["answers"][number] for number in scored]
        scores.append([None if answer is None else float(answer["right"]) for answer in answers])
    return [("prompts", questions, scores)]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _findings(plain: Mapping[str, Any], models: Sequence[Shown]) -> dict[str, Any]:
    """Lay out whatever was found out about the models: one row per name, and every sentence."""
    own = [[Finding.from_dict(each) for each in model["findings"]] for model in plain["models"]]
    names = list(dict.fromkeys(finding.name for findings in own for finding in findings))
    known = [{finding.name: finding for finding in findings} for findings in own]
    rows = [
        {
            "name": name.replace("_", " ").capitalize(),
            "cells": [_finding(each.get(name)) for each in known],
        }
        for name in names
    ]
    sentences = [
        {"model": model, "sentences": [finding.sentence for finding in findings]}
        for model, findings in zip(models, own, strict=True)
        if findings
    ]
    return {"rows": rows, "sentences": sentences}


def _finding(finding: Finding | None) -> figures.Cell:
    text, _, small = show_interval(finding).partition(" (") if finding else (words.NOTHING, "", "")
    return figures.Cell(text, small.removesuffix(")"))


def _how(plain: Mapping[str, Any]) -> str:
    setting = plain["setting"]
    asked = "once" if setting["rounds"] == 1 else f"{setting['rounds']} times"
    turns = "in turns, all models loaded at once" if setting["together"] else "one model after the other"
    said = (
        f"Every prompt was asked {asked}, {turns}, with temperature 0, seed {setting['seed']} and at most "
        f"{setting['tokens']} tokens an answer. Speeds are those of these answers; of a model behind a server they are "
        "taken here and hold what the network takes."
    )
    texts = next((model["texts"] for model in plain["models"] if model["texts"]), ())
    for text in texts:
        said += (
            f" {text['name']} was read in {text['windows']} windows of {text['length']} tokens, of which the second "
            "half is scored; differences are paired token by token where models have the same tokens."
        )
    return said


def _facts(plain: Mapping[str, Any], models: Sequence[Shown]) -> list[tuple[str, str]]:
    machine = plain["machine"]
    versions = [f"{name} {version}" for name, version in machine["versions"].items() if version]
    rows: list[tuple[str, Any]] = [
        ("Processor", machine["processor"]),
        ("Cores", machine["cores_physical"]),
        ("Threads used", plain["setting"]["threads"]),
        ("Processor features", ", ".join(machine["flags"])),
        ("Memory", words.size(machine["memory_total"])),
        ("System", machine["platform"]),
        ("Python", machine["python"]),
        ("Packages", ", ".join(versions)),
        ("Begun", plain["created"]),
    ]
    for shown, model in zip(models, plain["models"], strict=True):
        about = model["about"]
        parts = [about["name"], f"engine {about['engine']}", about["server"], about["format"]]
        parts += [f"dequantised from {about['dequantised_from']}" if about["dequantised_from"] else None]
        parts += [f"licence {about['licence']}" if about["licence"] else None]
        parts += [f"context {about['context']:,}" if about["context"] else None]
        parts += [f"sha256 {about['sha256']}" if about["sha256"] else None]
        rows.append((f"Model {shown.letter}", ", ".join(str(part) for part in parts if part)))
    first = next((model["texts"] for model in plain["models"] if model["texts"]), ())
    rows += [(f"Text “{text['name']}”, sha256", text["sha256"]) for text in first]
    rows += [
        (f"Task {task['name']}", f"{task['file']}, {len(task['questions']):,} questions, {task['shots']} examples")
        for task in plain["tasks"]
    ]
    return [(name, str(value)) for name, value in rows if value]


def _command(plain: Mapping[str, Any]) -> str:
    setting = plain["setting"]
    parts = ["smidgen", "compare", *(model["about"]["name"] for model in plain["models"])]
    for name in ("rounds", "tokens", "windows", "seed", "threads"):
        parts += [f"--{name}", str(setting[name])]
    for name, value in (("judge", setting["judge"]), ("prompts", setting.get("prompts_file"))):
        parts += [f"--{name}", value] if value else []
    for text in setting.get("texts") or ():
        parts += ["--text", text]
    parts += ["--weaknesses"] if setting.get("weaknesses") else []
    for task in plain["tasks"]:
        parts += ["--task", task["name"], "--task-file", task["file"]]
    if plain["tasks"]:
        parts += ["--limit", str(max(len(task["questions"]) for task in plain["tasks"]))]
    return f"{shlex.join(parts)} --fresh"
