"""A program with the manners of ``vllm serve``: every byte is a token, and what the prompt says decides the answer.

It answers "Good day."; to "long" without end, to "fail" with status 500, to "die" with its own end after one piece, and
what must be JSON with ``{"a": 1}``. What it was asked, and whether a client left early, lies in the file that
STANDIN_TOLD names.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BEGIN, MARK = 256, "<s>"
WORDS = sys.argv[1:]
SEEN: dict[str, Any] = {"words": WORDS, "pid": os.getpid(), "asked": [], "left": 0, "health": 0}


def option(name: str, default: str) -> str:
    return WORDS[WORDS.index(name) + 1] if name in WORDS else default


def tell() -> None:
    told = Path(os.environ["STANDIN_TOLD"])
    told.with_suffix(".new").write_text(json.dumps(SEEN))
    told.with_suffix(".new").replace(told)


def event(**choice: Any) -> dict[str, Any]:
    chunk = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "model"}
    whole = {"index": 0, "logprobs": None, "finish_reason": None, "stop_reason": None, **choice}
    return {**chunk, "choices": [whole]}


def text_of(tokens: list[int]) -> str:
    return "".join(MARK if token == BEGIN else chr(token) for token in tokens)


def cut(text: str, asked: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return what is left of an answer, why it ends, and the stop text."""
    found = [(text.find(stop), stop) for stop in asked.get("stop", []) if stop in text]
    if found:
        return text[: min(found)[0]], "stop", min(found)[1]
    return text, "length" if asked.get("max_tokens", 16) <= 3 else "stop", None


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/health":
            SEEN["health"] += 1
            return self.answer({}, 200 if SEEN["health"] > 1 else 503)
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.answer({"error": "Unauthorized"}, 401)
        listed = [{"id": name, "object": "model", "owned_by": "vllm"} for name in ("model", "adapter")]
        self.answer({"object": "list", "data": listed})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            tokens = [BEGIN, *(ord(letter) % 256 for letter in asked["prompt"])]
            length = int(option("--max-model-len", "2048"))
            return self.answer({"tokens": tokens, "count": len(tokens), "max_model_len": length})
        if self.path == "/detokenize":
            return self.answer({"prompt": text_of(asked["tokens"])})
        SEEN["asked"].append([self.path, asked])
        tell()
        prompt = asked.get("prompt", "")
        told = text_of(prompt) if isinstance(prompt, list) else prompt or asked["messages"][-1]["content"]
        if "fail" in told:
            return self.answer({"error": {"message": "CUDA error: out of luck", "code": 500}}, 500)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self.speak(told, asked, "chat" in self.path)
        except OSError:
            SEEN["left"] += 1
            tell()

    def speak(self, told: str, asked: dict[str, Any], chat: bool) -> None:
        text, reason, stopped = cut('{"a": 1}' if "response_format" in asked else "Good day.", asked)
        pieces = [text[:4], text[4:8], text[8:]]
        for number in range(2000 if "long" in told else len(pieces)):
            piece = pieces[number % len(pieces)]
            self.say(event(**({"delta": {"content": piece}} if chat else {"text": piece})))
            if "die" in told:
                os._exit(3)
            if "long" in told:
                time.sleep(0.02)
        said = {"delta": {}} if chat else {"text": ""}
        self.say(event(**said, finish_reason=reason, stop_reason=stopped))
        usage = {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3}
        self.say({**event(), "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def say(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()


if __name__ == "__main__":
    if option("--max-model-len", "0") == "13":
        sys.exit("error: max_model_len (13) is too small")
    tell()
    ThreadingHTTPServer(("127.0.0.1", int(option("--port", "0"))), Handler).serve_forever()
