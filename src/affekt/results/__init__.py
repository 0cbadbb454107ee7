"""Run directories, read back and checked: measures per job, summaries, fusion, and studies of several runs."""

from affekt.results.fusion import fuse
from affekt.results.geometry import write_geometry
from affekt.results.run_directory import JobDirectory, JobKey, RunDirectory, write_summary
from affekt.results.run_results import FoldSizes, Results
from affekt.results.summary import measure_jobs, summarize

__all__ = [
    "FoldSizes",
    "JobDirectory",
    "JobKey",
    "Results",
    "RunDirectory",
    "fuse",
    "measure_jobs",
    "summarize",
    "write_geometry",
    "write_summary",
]
