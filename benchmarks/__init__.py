"""How long llmcache takes, and what else would: ``python -m benchmarks``."""
