"""The framework of the verbs: typed functions become parsers, help pages and calls."""
