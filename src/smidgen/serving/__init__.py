"""Models behind one port: Ollama's and OpenAI's HTTP APIs, several models at once."""
