"""A comparison as it comes out of a real run, for looking at the report without running one."""

import random

from smidgen import machine
from smidgen.evaluate.comparing import yardsticks
from smidgen.evaluate.comparing.judging import Duel, summarise
from smidgen.evaluate.comparing.results import NOISY, Answered, Compared, Comparison, Range, by_round, ratio
from smidgen.evaluate.comparing.scoring import Scores
from smidgen.evaluate.findings import Finding
from smidgen.evaluate.quality import Losses
from smidgen.evaluate.tasks import Figure, TaskScore

NAMES = ("smollm2:135m", "gemma3:270m", "llama-cpp-q3_k_m.gguf", "fit-80MB.gguf", "http://host:11434/llama3.2:1b")
BYTES = (98_362_432, 241_410_208, 93_510_240, 79_998_976, 1_321_000_000)
RATES = (41.0, 22.0, 43.0, 47.0, 18.0)
LOSS = (2.41, 2.62, 2.48, 2.45, None)
PROMPTS = (
    "What is the length of the hypotenuse in a right-angled triangle? Think step by step.",
    "What is the capital of France?",
    "Is <b>this</b> safe? Answer with $x$ & <script>alert(1)</script>.",
)
TEXTS = (
    "The hypotenuse is the longest side. By the theorem of Pythagoras its length c is the root of a² + b², where a and "
    "b are the other two sides.\n\nStep 1: square a.\nStep 2: square b.\nStep 3: add them and take the root.",
    "The capital of France is Paris.",
    "Yes, <b>this</b> is safe.",
)
OTHER = "The triangle has three sides. You can measure it with a ruler, and a protractor helps with the angles."
RIGHT = (
    (True, True, None),
    (False, True, None),
    (True, True, None),
    (True, False, None),
    (True, True, None),
)


def answer(model, prompt, generator):
    text = TEXTS[prompt]
    if model == 1 and prompt == 0:
        text = OTHER
    elif model in (2, 3):
        text = text.replace("longest side", "longest of the sides").replace("Paris", "Paris" if model == 2 else "Lyon")
    rates = tuple(RATES[model] * generator.uniform(0.96, 1.04) for _ in range(2))
    first = tuple(2000 / RATES[model] * generator.uniform(0.95, 1.05) for _ in range(2))
    reason = "length" if prompt == 0 and model == 1 else "stop"
    return Answered(text, reason, 18 + prompt, len(text) // 4, first, rates, True, RIGHT[model][prompt])


def losses(model):
    if LOSS[model] is None:
        return ()
    shared, generator = random.Random(7), random.Random(model)
    nats = [
        max(0.01, shared.expovariate(1 / LOSS[0]) * LOSS[model] / LOSS[0] + generator.gauss(0, 0.1))
        for _ in range(2040)
    ]
    tokens = "e" if model == 1 else "d"
    return (Losses("Python documentation (held out)", "9f2c" * 16, tuple(nats), 8_600, 8, 512, tokens * 64),)


def task(model):
    if model == 4:
        return None
    generator = random.Random(100 + model)
    scores = tuple({"acc_norm": float(generator.random() < 0.5 - 0.04 * model)} for _ in range(60))
    share = sum(each["acc_norm"] for each in scores) / 60
    figure = Figure(share, (share * (1 - share) / 60) ** 0.5)
    return TaskScore(NAMES[model], "arc", "ARC-Easy-Test.jsonl", 60, 0, "acc_norm", {"acc_norm": figure}, {}, scores)


def findings(model):
    if model == 4:
        return ()
    share = 0.9 - 0.1 * model
    weak = Finding(
        "long_range", share, "share", low=share - 0.2, high=min(1.0, share + 0.08), items=40, weak=share < 0.8,
        sentence=f"It finds {share:.0%} of the facts that stand 1,024 tokens back.",
    )  # fmt: skip
    energy = Finding("energy", None, "joules per token", "No energy counter is readable here.")
    return (weak, energy)


def realistic_comparison(models=5):
    generator = random.Random(3)
    answers = [tuple(answer(model, prompt, generator) for prompt in range(3)) for model in range(models)]
    scores = [Scores(losses(model), {0: task(model)} if task(model) else {}) for model in range(models)]
    pairs = [(prompt, one, two) for prompt in range(3) for one in range(models) for two in range(one + 1, models)]
    duels = [Duel(*pair, generator.choice((0.0, 0.5, 1.0)), generator.random() < 0.7) for pair in pairs]
    opinion = summarise("smollm2:135m", duels, models, True)
    compared = tuple(one(model, answers[model], scores[model]) for model in range(models))
    return Comparison(
        created="2026-11-23T11:02:03.123456+00:00",
        models=compared,
        prompts=tuple(
            {"text": text, "answers": wanted, "pattern": pattern}
            for text, wanted, pattern in zip(PROMPTS, ([], ["Paris"], []), (r"a(\^2|²)", "", ""), strict=True)
        ),
        yardstick=yardsticks.choose(scores, answers, opinion),
        ratios=tuple(ratio(answers[0], own) if own is not answers[0] else None for own in answers),
        tasks=(
            {
                "name": "arc",
                "file": "ARC-Easy-Test.jsonl",
                "shots": 0,
                "questions": [f"Question: Which number comes after {number}?\nAnswer:" for number in range(60)],
                "right": [[str(number + 1)] for number in range(60)],
                "scores": [
                    [item["acc_norm"] for item in each.tasks[0].scores] if 0 in each.tasks else None for each in scores
                ],
            },
        ),
        opinion=opinion.to_dict(),
        setting={
            "rounds": 2,
            "tokens": 128,
            "windows": 8,
            "seed": 0,
            "temperature": 0,
            "threads": 2,
            "together": True,
            "noisy": NOISY,
            "judge": "smollm2:135m",
            "judge_orders": 2,
        },
        machine=machine.inspect().to_dict()
        | {
            "processor": "AMD EPYC 9354P",
            "flags": ["avx2", "avx512f"],
            "python": "3.11.7",
            "versions": {"torch": "2.9.1"},
        },
        noise=0.04,
        repeat={"earlier": "2026-11-22T10:00:00+00:00", "identical": True, "moved": [], "speeds": [1.02] * models},
        smidgen="0.1.0",
    )


def one(model, answers, scores):
    from smidgen.evaluate.comparing.running import _task, _text

    remote = model == 4
    return Compared(
        about={
            "name": NAMES[model],
            "engine": "remote" if remote else "llama_cpp",
            "context": None if remote else 4096,
            "bytes": BYTES[model],
            "parameters": None if remote else (134_515_008, 268_098_176)[model == 1],
            "bits_per_weight": None if remote else 8 * BYTES[model] / (134_515_008, 268_098_176)[model == 1],
            "format": ("Q4_1", "Q4_K", "Q3_K", "IQ4_NL", "Q8_0")[model],
            "sha256": "ab" * 32,
            "licence": "Apache-2.0",
            "base_model": None,
            "server": "Ollama's protocol, version 0.9" if remote else None,
            "dequantised_from": "Q4_1" if model == 0 else None,
        },
        answers=answers,
        writes=Range.of(by_round(answers, "rates", 2)),
        first_ms=Range.of(by_round(answers, "first_ms", 2)),
        load_seconds=None if remote else 0.4,
        memory=None if remote else int(2.2 * BYTES[model]),
        texts=tuple(_text(each) for each in scores.losses),
        tasks=tuple(_task(scores.tasks[0]) if 0 in scores.tasks else None for _ in range(1)),
        findings=findings(model),
        notes=("It gives no probabilities, so that arc could not be measured.",) if remote else (),
    )
