"""The published copy of a run: small, with the files of all jobs packed; it is checked, reported and resumed as the "
"run."""

from __future__ import annotations

import shutil
from pathlib import Path

from affekt.results.packed_tables import JobId, pack, pack_texts, packed_jobs
from affekt.results.run_directory import FOLD, PACKED, RESULT, SEED, STATE, JobDirectory, JobKey, job_id
from affekt.runtime.atomic_files import write_bytes

UNPUBLISHED = ("*.safetensors", "*.npy", STATE, ".*", "corpus", "cache", "figures", "report.*")
"""Patterns of what a published copy leaves behind: large files, and what is computed again."""


def copy_published(run: Path, target: Path) -> None:
    """Copy the small files of a run, in place of whatever `target` holds, with the files of all jobs packed.

    Args:
        run: the run directory, or a published copy of it that may have been resumed.
        target: the published copy.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run, target, ignore=shutil.ignore_patterns(*UNPUBLISHED))
    pack_jobs(target)


def pack_jobs(run: Path) -> None:
    """Replace the predictions, histories and results of all finished jobs by one Parquet file each.

    Jobs that are packed already are packed again with the others; a job's own file counts before a packed one.

    Args:
        run: the published copy.
    """
    jobs = {key: JobDirectory(run / str(JobKey(*key))) for key in sorted(_finished(run))}
    for name in PACKED:  # results last: they say which jobs are finished
        contents = {key: content for key, job in jobs.items() if (content := job.read(name)) is not None}
        packed = list(contents) if name == RESULT else pack(run, name, contents)
        if name == RESULT and contents:
            pack_texts(run, name, contents)
        for key, content in contents.items():
            (jobs[key].path / name).unlink(missing_ok=True)
            if key not in packed:
                jobs[key].path.mkdir(parents=True, exist_ok=True)
                write_bytes(jobs[key].path / name, content)
    for folder in sorted((path for path in run.rglob("*") if path.is_dir()), reverse=True):  # a folder after its own
        if not any(folder.iterdir()):
            folder.rmdir()


def _finished(run: Path) -> set[JobId]:
    folders = (path.parent for path in run.glob(f"*/{FOLD}*/{SEED}*/{RESULT}"))
    return {key for folder in folders if (key := job_id(folder)) is not None} | set(packed_jobs(run, RESULT))
