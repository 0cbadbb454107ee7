"""Every claim about speed, as a command: `make bench`, or `python -m benchmarks`; see docs/benchmarks.md."""
