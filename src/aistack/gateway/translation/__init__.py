"""Ollama's API spoken to engines that know only OpenAI's: pure functions and one stream reader."""
