"""Run directories, read back: what was measured, and what it amounts to."""

from affekt.results.fusion import fuse
from affekt.results.geometry import write_geometry
from affekt.results.reading import DIGEST, FUSIONS, FoldSizes, Job, Results, damage, file_sha256, result_digest
from affekt.results.summary import measure_jobs, summarize, write_summary

__all__ = [
    "DIGEST",
    "FUSIONS",
    "FoldSizes",
    "Job",
    "Results",
    "damage",
    "file_sha256",
    "fuse",
    "measure_jobs",
    "result_digest",
    "summarize",
    "write_geometry",
    "write_summary",
]
