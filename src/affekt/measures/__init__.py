"""Measures: metrics of a classifier and statistics of its results."""
