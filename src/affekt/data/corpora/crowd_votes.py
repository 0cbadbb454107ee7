"""CREMA-D's crowd: how many listeners heard which emotion, from the tables of the release."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from affekt.data.corpora.release import Note, Row
from affekt.data.manifest import VOTES_PREFIX

COUNTED, SUMMED_UP = "tabulatedVotes.csv", "summaryTable.csv"
EMOTIONS = {"A": "angry", "D": "disgusted", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}
VOICE_ONLY = "1"
"""First digit of the row names that stand for ratings of the voice alone; 2 is the face, 3 both."""

Votes = Mapping[str, Mapping[str, float]]


def add_votes(rows: list[Row], folders: Iterable[Path]) -> list[Note]:
    """Add the listeners' votes on the voice alone to the rows, as columns `votes.<label>`.

    ``tabulatedVotes.csv`` holds the numbers of listeners. ``summaryTable.csv`` holds the winner, or those of a tie;
    each of them gets one vote.

    Args:
        rows: utterances whose ids are the release's names.
        folders: where the tables may lie.

    Returns:
        A note on the table that was read, or could not be; none where there is no table.
    """
    for name, read in ((COUNTED, _counted), (SUMMED_UP, _summed_up)):
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            continue
        try:
            votes = read(path)
        except (OSError, ValueError, KeyError, csv.Error) as error:
            got = f"no column {error}" if isinstance(error, KeyError) else str(error)
            return [Note(f"votes of {path.name}, not used", got=got, expected="the release's table", warning=True)]
        found = [row for row in rows if row["id"] in votes]
        for row in found:
            row.update({f"{VOTES_PREFIX}{label}": count for label, count in votes[row["id"]].items()})
        what = "numbers of listeners" if read is _counted else "winners of the vote"
        return [Note("votes read", got=f"{what} from {name}, on the voice alone, for {len(found):,} utterances")]
    return []


def _counted(path: Path) -> Votes:
    """Numbers of listeners.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "t.csv"
    >>> _ = path.write_text('"","A","D","F","H","N","S","fileName"\\n"100001",0,0,0,1,10,0,"1001_IEO_NEU_XX"\\n')
    >>> _counted(path)["1001_IEO_NEU_XX"]["neutral"]
    10.0
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {
            line["fileName"]: {label: float(line[code]) for code, label in EMOTIONS.items()}
            for line in csv.DictReader(file)
            if line[""].startswith(VOICE_ONLY) and len(line[""]) == 6
        }


def _summed_up(path: Path) -> Votes:
    """One vote for each winner."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        winners = {line["FileName"]: line["VoiceVote"].split(":") for line in csv.DictReader(file)}
    return {
        name: {label: float(code in codes) for code, label in EMOTIONS.items()}
        for name, codes in winners.items()
        if set(codes) <= set(EMOTIONS)
    }
