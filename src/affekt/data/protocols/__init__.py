"""Protocols: the utterances that a model is trained, validated and tested on, and what these parts may share.

Every plan of folds is audited. Leaks that the protocol forbids are refused; those that it allows are stated in the
protocol line of every result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from affekt.data.manifest import Manifest
from affekt.data.protocols.audit import RULES, Audit, Finding, Fold, Rules, audit
from affekt.data.protocols.emobox import read_emobox
from affekt.data.protocols.fold_plan import FoldPlan
from affekt.data.protocols.splits import SPLITS, Settings
from affekt.data.protocols.utterances import Utterances
from affekt.errors import NO_FILE, ProtocolError

__all__ = ["RULES", "SPLITS", "Audit", "Finding", "Fold", "FoldPlan", "Rules", "audit", "make_folds"]

LARGEST_SEED = 2**32 - 1


def make_folds(
    manifest: Manifest,
    protocol: str | Path = "random",
    folds: int = 5,
    seed: int = 0,
    hashes: Sequence[str] | None = None,
    *,
    adaptation: str = "none",
    train_corpora: Sequence[str] = (),
    test_corpora: Sequence[str] = (),
) -> FoldPlan:
    """Audited folds of a manifest.

    ===========  =========================================================================================
    protocol     test part of a fold
    ===========  =========================================================================================
    ``random``   a stratified share of the utterances (the paper's); speakers and texts are shared
    ``speaker``  a share of the speakers, balanced in size and classes
    ``text``     a share of the texts, likewise
    ``session``  one session; another one validates
    ``loso``     one speaker
    ``corpus``   one corpus; speakers of the others validate
    a folder     given by EmoBox's lists in it, e.g. ``EmoBox/data/emodb``
    a file       given by a fold file
    ===========  =========================================================================================

    Args:
        manifest: the utterances; each is tested once.
        protocol: a name, or the path of a fold file or of EmoBox's lists.
        folds: number of folds for `random`, `speaker` and `text`; the others have one per session, speaker or corpus.
        seed: seed of every choice; the same utterances and seed give the same folds for any order of the rows.
        hashes: a content hash of each row's audio (`WaveformStore.hashes`). `random` keeps copies
            together, all other protocols refuse copies in different parts; without hashes, the line says so.
        adaptation: what a normalizer may use besides the training part, for the protocol line.
        train_corpora: for `corpus`: corpora to train on; by default all but the tested one.
        test_corpora: for `corpus`: corpora to test, one fold each; by default all.

    Returns:
        The folds with their audit.

    Raises:
        ProtocolError: this manifest does not allow the protocol; the message has examples.

    >>> rows = [{"id": f"{speaker}{n}", "path": f"{speaker}{n}.wav", "label": label, "speaker": speaker}
    ...         for speaker in "abcdef" for n, label in enumerate(["happy", "sad"] * 3)]
    >>> plan = make_folds(Manifest.from_rows(rows, "."), "speaker", folds=3)
    >>> [len(plan.folds[0].parts()[part]) for part in ("train", "validation", "test")]
    [18, 6, 12]
    >>> plan.line("own", classes=2, seeds=1)
    'own 2-class | speaker 3-fold, 1 seed | speakers shared: no | texts shared: unknown | duplicates: not checked'
    """
    if not (folds >= 2 and 0 <= seed <= LARGEST_SEED):
        got = f"{folds} folds, seed {seed}"
        raise ProtocolError("folds and seed", got=got, expected=f"at least 2 folds, a seed from 0 to {LARGEST_SEED}")
    if str(protocol) not in SPLITS:
        return _from_path(Path(protocol), manifest, seed, hashes, adaptation)
    if protocol != "corpus" and (train_corpora or test_corpora):
        raise ProtocolError(f"protocol {protocol}", got="corpora to train or test on", expected="protocol corpus")
    utterances = Utterances.of(manifest, hashes)
    settings = Settings(folds, seed, tuple(train_corpora), tuple(test_corpora))
    made = tuple(SPLITS[str(protocol)](utterances, settings))
    return FoldPlan(str(protocol), seed, made, audit(made, utterances, str(protocol)), adaptation)


def _from_path(path: Path, manifest: Manifest, seed: int, hashes: Sequence[str] | None, adaptation: str) -> FoldPlan:
    if path.is_dir():
        utterances = Utterances.of(manifest, hashes)
        folds = read_emobox(path, manifest, utterances, seed)
        return FoldPlan("emobox", seed, folds, audit(folds, utterances, "emobox"), adaptation)
    if not path.is_file():
        if path.suffix or path.parent != Path():
            raise ProtocolError(str(path), got=NO_FILE, expected="a fold file or folder of EmoBox lists")
        raise ProtocolError(
            "protocol", got=repr(str(path)), expected=f"{', '.join(SPLITS)}, or a fold file or folder of EmoBox lists"
        )
    plan = FoldPlan.read(path, manifest, hashes)
    return plan if adaptation == "none" else replace(plan, adaptation=adaptation)
