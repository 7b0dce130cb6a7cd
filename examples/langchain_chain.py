"""Asks a small model through LangChain: the chain of its tutorials for Ollama, with smidgen in Ollama's place.

    pip install langchain-ollama
    python examples/langchain_chain.py
    python examples/langchain_chain.py "Why is the sky blue?"

The server runs beside the program and ends with it. `examples/langchain_chain.ipynb` is the same for Jupyter and Colab.
"""

import subprocess
import sys
import threading
import time

from langchain_core.prompts import ChatPromptTemplate
from langchain_ollama.llms import OllamaLLM

template = """Question: {question}

Answer: Let's think step by step."""

servers = []


def run_server() -> None:
    """Start the server as a process of its own."""
    servers.append(subprocess.Popen(["smidgen", "serve"]))


thread = threading.Thread(target=run_server)
thread.start()
time.sleep(5)
try:
    subprocess.run(["smidgen", "pull", "smollm2:135m"], check=True)

    prompt = ChatPromptTemplate.from_template(template)
    model = OllamaLLM(model="smollm2:135m")
    chain = prompt | model
    print(chain.invoke({"question": sys.argv[1] if len(sys.argv) > 1 else "What is LangChain?"}))
finally:
    for server in servers:
        server.terminate()
        server.wait()
