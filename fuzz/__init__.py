"""Fuzzing: mutated input from external sources, and checks of forbidden behavior.

`targets` lists the readers of external data, whose inputs are in `recordings`, `text_files`, `model_files` and
`server`; `mutations` changes inputs, `watch` detects forbidden behavior. The tests try some inputs of every target
(`tests/test_fuzz.py`); `python -m fuzz` runs for minutes.
"""
