"""From typed functions to commands: arguments from signatures, help pages from docstrings, calls from words."""
