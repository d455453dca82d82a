"""Benchmarks of a serving engine: its throughput (`python -m benchmarks.serving`), and hours of mixed requests with
faults (`python -m benchmarks.serving.soak`).
"""
