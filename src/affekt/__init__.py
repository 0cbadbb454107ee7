"""affekt: speech emotion recognition with a declared protocol."""

__version__ = "0.1.0"
