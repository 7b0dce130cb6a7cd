"""A receipt of a realistic size, with every entry that the report shows."""

FORMATS = {"q4_1": 5.0, "q4_0": 4.5, "iq4_nl": 4.5, "q5_0": 5.5, "q8_0": 8.5}
PLACES = {
    "q_proj": 576,
    "k_proj": 192,
    "v_proj": 192,
    "o_proj": 576,
    "gate_proj": 1536,
    "up_proj": 1536,
    "down_proj": 576,
}


def tensors() -> list[dict]:
    """Thirty layers whose formats vary as an allocation's would."""
    found = [tensor("model.embed_tokens.weight", "iq4_nl", 49152, 576, 0.021)]
    for layer in range(30):
        for number, (name, rows) in enumerate(PLACES.items()):
            edge = layer in (0, 29)
            kind = (
                ("q8_0" if edge else "q5_0")
                if name in ("v_proj", "down_proj")
                else ("q4_1", "q4_0")[(layer + number) % 3 == 0]
            )
            columns = 1536 if name == "down_proj" else 576
            group = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            damage = 0.00004 * (1 + number) + 0.0003 * edge
            found.append(tensor(f"model.layers.{layer}.{group}.{name}.weight", kind, rows, columns, damage))
    return found


def tensor(name: str, kind: str, rows: int, columns: int, damage: float) -> dict:
    bits = FORMATS[kind]
    size = int(rows * columns * bits / 8)
    return {
        "name": name,
        "format": kind,
        "shape": [rows, columns],
        "bits_per_weight": bits,
        "bytes": size,
        "damage_predicted": damage,
    }


def quality(text: str, scale: float, **changes) -> dict:
    return {
        "text": text,
        "tokens": 2040,
        "kl_mean": 0.0612 * scale,
        "kl_mean_se": 0.0021 * scale,
        "kl_median": 0.0313 * scale,
        "kl_p99": 0.472 * scale,
        "kl_p999": 1.31 * scale,
        "same_top": 1 - 0.088 * scale,
        "ppl_source": 18.28 * scale,
        "ppl_result": 19.12 * scale,
        "ppl_ratio": 1.0459,
        "ppl_ratio_se": 0.0061,
        "bits_per_byte": 0.981,
        "bits_per_byte_source": 0.966,
        "dropped_mass": 0.0,
        "windows": 8,
        "length": 512,
        "stride": 512,
        "sha256": "9f2c" * 16,
        "kl_quantiles": [1e-6 * scale * 1.9**step for step in range(21)],
    } | changes


def rate(median: float) -> dict:
    return {
        "mean": median,
        "sd": 0.02 * median,
        "median": median,
        "low": 0.97 * median,
        "high": 1.02 * median,
        "runs": 3,
    }


def realistic_receipt() -> dict:
    """A receipt such as `smidgen make` writes."""
    stored = tensors()
    return {
        "format": 1,
        "smidgen": "0.1.0",
        "seconds": 162.0,
        "source": {
            "name": "smollm2:135m",
            "sha256": "ab" * 32,
            "bytes": 98_362_432,
            "parameters": 134_515_008,
            "dequantised_from": "Q4_1",
            "licence": "Apache-2.0",
            "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        },
        "budget": {
            "fit": 80_000_000,
            "speed": 20.0,
            "keep": 0.95,
            "within": 240.0,
            "for": None,
        },
        "plan": {"decisions": [{"name": "calibration windows", "value": 20, "because": "", "at": 2.9}]},
        "steps": [
            {
                "name": "calibrate",
                "operation": "calibrate",
                "parameters": {"tokens": 16384},
                "seconds": 41.2,
                "key": "a1",
                "curves": None,
            },
            {
                "operation": "distill",
                "parameters": {"steps": 60, "batch_size": 4},
                "seconds": 61.0,
                "key": "d4",
                "curves": {
                    "training": [[step, 0.25 - step / 600] for step in range(10, 61, 10)],
                    "held_out": [[step, 0.31 - step / 500] for step in range(0, 61, 20)],
                    "best_step": 60,
                    "stopped_early": False,
                    "gap": 0.04,
                },
            },
            {
                "name": "quantize",
                "operation": "quantize",
                "parameters": {"solver": "gptq", "formats": {"a": "q4_1"}},
                "seconds": 120.9,
                "key": "b2",
            },
        ],
        "result": {
            "bytes": 79_998_976,
            "parameters": 134_515_008,
            "bits_per_weight": 4.757,
            "sha256": "cd" * 32,
            "path": "demo/model.gguf",
        },
        "parts": {
            "before": {
                "embedding": 30_081_024,
                "attention": 16_600_000,
                "mlp": 49_800_000,
                "head": 0,
                "other": 1_881_408,
            },
            "after": {
                "embedding": 15_925_248,
                "attention": 15_100_000,
                "mlp": 47_100_000,
                "head": 0,
                "other": 1_873_728,
            },
        },
        "tensors": stored,
        "quality": [quality("Python documentation (held out)", 1.0), quality("general prose", 1.4)],
        "predicted": {
            "kl_mean": 0.0585,
            "bytes": 79_990_000,
            "tokens_per_second": 61.0,
            "mixes": [
                {"shape": "the whole model", "structural": 0.0, "quantization": 0.0585, "damage": 0.0585},
                {"shape": "29 of 30 layers", "structural": 0.11, "quantization": 0.031, "damage": 0.141},
            ],
        },
        "speed": {
            "pp512": rate(402.0),
            "tg128": rate(63.5),
            "ttft_ms": {"p50": 171.0, "p95": 180.2, "runs": 5},
            "load_s": 0.31,
            "threads": 2,
            "source": {
                "pp512": rate(371.0),
                "tg128": rate(54.9),
                "ttft_ms": {"p50": 181.0, "p95": 199.0, "runs": 5},
                "load_s": 0.36,
            },
        },
        "memory": {"peak_rss_bytes": 231_000_000, "source_peak_rss_bytes": 252_000_000},
        "machine": {
            "processor": "AMD EPYC 9354P",
            "cores_physical": 2,
            "flags": ["avx2", "avx512f"],
            "memory_total": 25_000_000_000,
            "platform": "Linux 6.1",
            "python": "3.11.9",
            "versions": {"smidgen": "0.1.0", "torch": "2.9.1", "gguf": None},
        },
        "met": {"size": True, "speed": True, "keep": False},
        "samples": [
            {
                "prompt": "Tom has 3 apples and buys 4 more. How many apples does he have?",
                "source": "Tom has 3 apples and 4 more apples, so he has 3 + 4 = 7 apples.",
                "result": "Tom has 3 apples and buys 4 more, so he has 3 + 4 = 7 apples.",
            },
            {"prompt": "Is <b>this</b> safe?", "source": "Yes & <no>.", "result": "Yes & <no>."},
        ],
        "warnings": ["No data was given, so Python's documentation stands in for your own text."],
    }
