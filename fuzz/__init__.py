"""Fuzzing: mutated input from external sources, and checks of forbidden behavior.

`targets` lists the readers of external data, `mutations` generates inputs, `watch` detects forbidden behavior. The
tests try some inputs of every target (`tests/test_fuzz.py`); `python -m fuzz` runs for minutes.
"""
