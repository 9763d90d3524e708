"""A LangChain chain and an agent that learn with a small model on the CPU."""
