"""Benchmarks for every claim about speed: `make bench`, or `python -m benchmarks`; see docs/benchmarks.md."""
