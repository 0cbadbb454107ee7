"""Hostile input: what may come from elsewhere, mutated, and what must not happen then.

`targets` says what is read and by which part of affekt, `mutations` how inputs are made, `watch` what no input may do.
The tests try some inputs of every target (`tests/test_fuzz.py`); `python -m fuzz` goes on for minutes.
"""
