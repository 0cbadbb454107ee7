"""Run directories, read back: what was measured, and what it amounts to."""

from affekt.results.reading import FoldSizes, Job, Results, damage, file_sha256
from affekt.results.summary import summarise, write_summary

__all__ = ["FoldSizes", "Job", "Results", "damage", "file_sha256", "summarise", "write_summary"]
