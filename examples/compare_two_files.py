"""Says which of two GGUF files lies closer to the model they were made from, token by token.

    python examples/compare_two_files.py smollm2:135m one.gguf two.gguf
    python examples/compare_two_files.py smollm2:135m one.gguf two.gguf --text notes.txt --windows 4

The files may come from any program; the text should be one that neither was calibrated on.
"""

import argparse
import sys

import smidgen
from smidgen.errors import SmidgenError


def main() -> None:
    """Measure both files against the source and print them side by side."""
    parser = argparse.ArgumentParser(description="Compare two GGUF files with the model they were made from.")
    parser.add_argument("source", help="a model's name, a folder or a .gguf file")
    parser.add_argument("files", nargs=2, metavar="FILE")
    parser.add_argument("--text", action="append", default=[], help="text to measure on; may be repeated")
    parser.add_argument("--windows", type=int, default=8, help="windows of 512 tokens of each text")
    asked = parser.parse_args()

    both = smidgen.measure(*asked.files, against=asked.source, texts=asked.text, windows=asked.windows, speed=False)
    for one in both:
        if one.notes:  # other tokens than the source's: nothing to compare token by token
            sys.exit(f"{one.name}: {one.notes[0]}")
    print(f"{'file':<28}{'bytes':>14}  {'text':<28}{'mean KL':>10}{'same top':>10}{'bits/byte':>11}")
    for one in both:
        for quality in one.quality:
            figures = f"{quality.kl_mean:>10.5f}{quality.same_top:>10.2%}{quality.bits_per_byte:>11.4f}"
            print(f"{one.name[-27:]:<28}{one.bytes:>14,}  {quality.text[-27:]:<28}{figures}")
    for first, second in zip(both[0].quality, both[1].quality, strict=True):
        closer = min((first, both[0]), (second, both[1]), key=lambda pair: pair[0].kl_mean)[1]
        apart = abs(first.kl_mean - second.kl_mean)
        # Two standard errors of either mean: the tokens are the same, so this asks for more than a paired test would.
        sure = apart > 2 * (first.kl_mean_se**2 + second.kl_mean_se**2) ** 0.5
        print(
            f"On {first.text}, {closer.name} lies closer." if sure else f"On {first.text}, they cannot be told apart."
        )


if __name__ == "__main__":
    try:
        main()
    except SmidgenError as error:
        sys.exit(str(error))
