"""The gateway side by side with LiteLLM, nginx as a plain proxy, and no proxy at all."""
