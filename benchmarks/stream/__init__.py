"""Streams in a bounded memory: whether memory, latency and work stay what they were, and what is remembered."""
