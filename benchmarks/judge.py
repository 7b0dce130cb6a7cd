"""An independent judge of a made model: compares two GGUF files with llama.cpp and checks a receipt's figures.

    python benchmarks/judge.py SOURCE.gguf RESULT.gguf TEXT.txt [--windows 8] [--length 512] [--threads 2] [--json]
    python benchmarks/judge.py SOURCE.gguf demo/model.gguf demo/evidence/prose.txt --receipt demo/receipt.json

Nothing of smidgen is imported. The library of llama.cpp that lies inside the package xllamacpp is called through
its C interface; probabilities are computed in float64, one token after the other, by the definitions. With
``--receipt`` the receipt's entry for the same text (found by its digest) sets windows and length, and the mean
divergence and both perplexities must agree within 2%: exit code 1 otherwise, 2 where the inputs do not fit together.
"""

import argparse
import ctypes
import hashlib
import importlib.util
import json
import math
import os
import sys
from ctypes import POINTER, byref, c_bool, c_char_p, c_float, c_int32, c_uint32, c_void_p, cast
from pathlib import Path

import numpy

TOLERANCE = 0.02
ABSOLUTE = 1e-6  # divergences below this are equal: the two sides round differently


class Opaque(ctypes.Structure):
    """Room for a parameter structure whose fields are taken as the library sets them."""

    _fields_ = (("bytes", ctypes.c_uint8 * 1024),)


class Batch(ctypes.Structure):
    """The structure ``llama_batch``."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(ctypes.c_int8)),
    )


QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)(lambda level, text, data: None)


def refuse(message):
    print(f"judge: {message}", file=sys.stderr)
    raise SystemExit(2)


def open_library():
    """Find the extension module inside xllamacpp: it is a shared library that exports llama.cpp's functions."""
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None:
        refuse("the package xllamacpp is not installed")
    folder = Path(spec.origin).parent
    found = sorted([*folder.glob("xllamacpp*.so"), *folder.glob("xllamacpp*.pyd")])
    if not found:
        refuse(f"no shared library in {folder}")
    library = ctypes.CDLL(str(found[0]))
    for name in ("llama_model_default_params", "llama_context_default_params"):
        getattr(library, name).restype = Opaque
    for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab", "llama_get_memory"):
        getattr(library, name).restype = c_void_p
    library.llama_model_load_from_file.argtypes = [c_char_p, Opaque]
    library.llama_init_from_model.argtypes = [c_void_p, Opaque]
    library.llama_model_get_vocab.argtypes = [c_void_p]
    library.llama_vocab_n_tokens.argtypes = [c_void_p]
    library.llama_vocab_get_text.argtypes = [c_void_p, c_int32]
    library.llama_vocab_get_text.restype = c_char_p
    library.llama_vocab_get_add_bos.argtypes = [c_void_p]
    library.llama_vocab_get_add_bos.restype = c_bool
    library.llama_vocab_bos.argtypes = [c_void_p]
    library.llama_tokenize.argtypes = [c_void_p, c_char_p, c_int32, c_void_p, c_int32, c_bool, c_bool]
    library.llama_set_n_threads.argtypes = [c_void_p, c_int32, c_int32]
    library.llama_batch_init.restype = Batch
    library.llama_decode.argtypes = [c_void_p, Batch]
    library.llama_get_logits_ith.argtypes = [c_void_p, c_int32]
    library.llama_get_logits_ith.restype = POINTER(c_float)
    library.llama_get_memory.argtypes = [c_void_p]
    library.llama_memory_clear.argtypes = [c_void_p, c_bool]
    library.llama_n_ctx.argtypes = [c_void_p]
    library.llama_log_set.argtypes = [c_void_p, c_void_p]
    library.llama_log_set(cast(QUIET, c_void_p), None)
    library.llama_backend_init()
    return library


class Judged:
    """One GGUF, loaded."""

    def __init__(self, library, path, length, threads):
        self.library, self.length = library, length
        self.model = library.llama_model_load_from_file(os.fsencode(path), library.llama_model_default_params())
        if not self.model:
            refuse(f"llama.cpp cannot load {path}")
        parameters = library.llama_context_default_params()
        head = cast(byref(parameters), POINTER(c_uint32))
        if list(head[:3]) != [512, 2048, 512]:
            refuse("this version of llama.cpp has another parameter structure")
        head[0] = head[1] = head[2] = max(512, length)
        self.context = library.llama_init_from_model(self.model, parameters)
        if not self.context or library.llama_n_ctx(self.context) < length:
            refuse(f"llama.cpp cannot make a context for {path}")
        library.llama_set_n_threads(self.context, threads, threads)
        self.vocabulary = library.llama_model_get_vocab(self.model)
        self.size = library.llama_vocab_n_tokens(self.vocabulary)
        self.batch = library.llama_batch_init(length, 0, 1)

    def texts(self):
        """The spelling of every token in the file."""
        return [self.library.llama_vocab_get_text(self.vocabulary, token) for token in range(self.size)]

    def begin(self):
        """The token that begins every text, None where the model wants none."""
        wanted = self.library.llama_vocab_get_add_bos(self.vocabulary)
        return self.library.llama_vocab_bos(self.vocabulary) if wanted else None

    def tokenize(self, text):
        """Tokens of a text, with the one that begins every text where the model wants it."""
        room = (c_int32 * (len(text) + 8))()
        count = self.library.llama_tokenize(self.vocabulary, text, len(text), room, len(room), True, False)
        if count < 0:
            refuse("llama.cpp cannot tokenize the text")
        return list(room[:count])

    def distributions(self, window):
        """Log-probabilities in float64 after each token of the second half but the last, one row at a time."""
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)
        self.batch.n_tokens = len(window)
        for place, token in enumerate(window):
            self.batch.token[place], self.batch.pos[place] = token, place
            self.batch.n_seq_id[place], self.batch.seq_id[place][0] = 1, 0
            self.batch.logits[place] = place >= len(window) // 2
        if self.library.llama_decode(self.context, self.batch) != 0:
            refuse("llama.cpp cannot read a window")
        for place in range(len(window) // 2, len(window) - 1):
            row = self.library.llama_get_logits_ith(self.context, place)
            logits = numpy.ctypeslib.as_array(row, shape=(self.size,)).astype(numpy.float64)
            shifted = logits - logits.max()
            yield shifted - math.log(numpy.exp(shifted).sum())


def token_map(source, result):
    """For each of the result's tokens the source's id, by the tokens' spelling."""
    one, two = source.texts(), result.texts()
    if one == two:
        return numpy.arange(len(one))
    places = {}
    for token, text in enumerate(one):
        places.setdefault(text, token)
    if missing := [text for text in two if text not in places]:
        refuse(f"{len(missing)} tokens of the result are unknown to the source, the first is {missing[0]!r}")
    return numpy.array([places[text] for text in two])


def judge(source, result, text, windows):
    """Compare two models on consecutive windows of a text."""
    known, length, begin = token_map(source, result), result.length, result.begin()
    ids = result.tokenize(text)
    count = min(windows, len(ids) // length)
    if count < 1:
        refuse(f"the text has {len(ids)} tokens, one window needs {length}")
    divergences, same, source_loss, result_loss = [], [], [], []
    for number in range(count):
        window = ids[number * length : (number + 1) * length]
        if begin is not None:
            window[0] = begin
        pairs = zip(
            source.distributions([int(known[token]) for token in window]), result.distributions(window), strict=True
        )
        for target, (everything, q) in zip(window[length // 2 + 1 :], pairs, strict=True):
            p = everything[known]
            p = p - math.log(numpy.exp(p).sum())
            divergences.append(float((numpy.exp(p) * (p - q)).sum()))
            same.append(int(everything.argmax()) == int(known[q.argmax()]))
            source_loss.append(-float(p[target]))
            result_loss.append(-float(q[target]))
    return {
        "windows": count,
        "length": length,
        "tokens": len(divergences),
        "kl_mean": float(numpy.mean(divergences)),
        "kl_median": float(numpy.median(divergences)),
        "kl_p99": float(numpy.quantile(divergences, 0.99)),
        "same_top": float(numpy.mean(same)),
        "ppl_source": math.exp(numpy.mean(source_loss)),
        "ppl_result": math.exp(numpy.mean(result_loss)),
    }


def check(found, entry):
    """List the figures of a receipt's entry that lie further than the tolerance from those found."""
    wrong = []
    for name in ("kl_mean", "ppl_source", "ppl_result"):
        apart = abs(found[name] - entry[name])
        if apart > TOLERANCE * abs(found[name]) and apart > ABSOLUTE:
            wrong.append(f"{name}: the receipt says {entry[name]:.6g}, found {found[name]:.6g}")
    return wrong


def entry_for(receipt, digest):
    """Find what a receipt says about the text with this digest."""
    try:
        entries = json.loads(Path(receipt).read_text(encoding="utf-8"))["quality"]
        return next(entry for entry in entries if entry["sha256"] == digest)
    except StopIteration:
        refuse(f"{receipt} has no figures for a text with the digest {digest[:12]}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        refuse(f"{receipt} is no receipt: {error}")


def arguments():
    parser = argparse.ArgumentParser(description="Compare two GGUF files with llama.cpp; check a receipt's figures.")
    parser.add_argument("source", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="tokens per window; the second half is scored")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--receipt", type=Path, help="check the figures of this receipt.json")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def main():
    asked = arguments()
    try:
        text = asked.text.read_bytes()
    except OSError as error:
        refuse(f"cannot read {asked.text}: {error.strerror}")
    entry = entry_for(asked.receipt, hashlib.sha256(text).hexdigest()) if asked.receipt else None
    windows, length = (entry["windows"], entry["length"]) if entry else (asked.windows, asked.length)
    library = open_library()
    source, result = (Judged(library, path, length, asked.threads) for path in (asked.source, asked.result))
    found = judge(source, result, text, windows)
    wrong = check(found, entry) if entry else []
    if asked.json:
        print(json.dumps(found | ({"agrees": not wrong, "problems": wrong} if entry else {}), indent=2))
    else:
        print("\n".join(f"{name:12} {value:.6g}" for name, value in found.items()))
        if entry:
            print("\n".join(wrong) or f"The receipt agrees within {TOLERANCE:.0%}.")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
