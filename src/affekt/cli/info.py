"""`affekt info`: the card of a model; or the parameters of the paper's networks, and this machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affekt.data.training_audio import readable
from affekt.runtime.environment import environment

if TYPE_CHECKING:
    from affekt.nn import LedgerRow
    from affekt.recognition.card import ModelCard

TOLD = (
    "system",
    "encoder",
    "attribution",
    "corpora",
    "chosen_by",
    "training_utterances",
    "validation",
    "recipe",
    "seed",
    "notices",
    "left_out",
)
"""Facts of a model's origin that are shown."""


def info(model: Path | None = None, /, *, all: bool = False) -> int:
    """Show the card of a model; or the parameters of the paper's networks, and this machine.

    The parameter ledger lists every trainable tensor of the baseline of Zhou & Liu (2020), counted on the network, and
    the additional parameters of combined attentive pooling and of 64 LSTM cells per direction.

    Args:
        model: a checkpoint (.safetensors), an exported model (.onnx), or `bundled` for the bundled model.
        all: print every fact of the card, not only the main ones.
    """
    if model is None:
        print("\n".join([*aligned(environment().items()), "", *_ledger_lines()]))
    elif model.suffix == ".safetensors":
        print("\n".join(aligned(_checkpoint_facts(model))))
    else:
        from affekt.recognition.recognizer import Recognizer

        card = Recognizer.load(None if model == Path("bundled") else model).card
        print(card if all else "\n".join(card_lines(card)))
    return 0


def aligned(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names and values in two columns.

    >>> aligned([("cpu", "Z80"), ("cores", "1")])
    ['cpu    Z80', 'cores  1']
    """
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"{name:<{width}}  {value}" for name, value in pairs]


def card_lines(card: ModelCard) -> list[str]:
    """The main facts of a card: input, license, origin, and the accuracy in each group of measures.

    Args:
        card: of an exported model.

    Returns:
        Lines for a terminal.
    """
    facts = [line.partition("  ") for line in str(card).splitlines()]
    lines = aligned((name, value.strip()) for name, _, value in facts if "." not in name)
    named = {key: card.provenance[key] for key in TOLD if card.provenance.get(key) not in (None, "")}
    lines += ["", *aligned((key.replace("_", " "), _words(value)) for key, value in named.items())] if named else []
    for name, group in card.measures.items():
        rows = _accuracies(group) if isinstance(group, Mapping) else []
        if rows:
            title = str(group.get("what") or f"{name.replace('_', ' ')}:")
            lines += ["", title, *(f"  {row}" for row in aligned(rows))]
    return [*lines, "", "every fact: affekt info MODEL --all"]


def _accuracies(group: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows with a UA, in any table of a group of measures."""
    tables = [group, *(value for value in group.values() if isinstance(value, Mapping))]
    rows = [(name, row) for table in tables for name, row in table.items() if isinstance(row, Mapping)]
    return [
        (str(name), f"UA {100 * row['ua']:.1f} % [{100 * row['ua_low']:.1f}, {100 * row['ua_high']:.1f}]")
        for name, row in rows
        if {"ua", "ua_low", "ua_high"} <= row.keys()
    ]


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _checkpoint_facts(path: Path) -> Iterable[tuple[str, str]]:
    from affekt.nn import ledger
    from affekt.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(path)
    system = checkpoint.system
    network, _ = checkpoint.build()
    yield "system", system.name
    yield "loss", " ".join([str(system.loss), *(f"{name}={value}" for name, value in system.loss_options.items())])
    yield "classes", ", ".join(checkpoint.classes)
    yield "input", f"{system.features.sample_rate_hz} Hz mono, up to {system.features.clip_seconds:g} s"
    yield "trainable parameters", f"{_total(ledger(network)):,}"
    yield "temperature", f"{checkpoint.temperature:.3f}"
    for name, value in readable(checkpoint.provenance).items():
        yield f"provenance.{name}", str(value)


def _ledger_lines() -> list[str]:
    try:
        from affekt.nn import NetworkConfig, parameter_ledger
    except ModuleNotFoundError:
        return ["parameter ledger: needs torch; pip install 'affekt[train]'"]
    baseline = parameter_ledger(NetworkConfig(), classes=4)
    lines = ["trainable parameters of the baseline, 4 classes", *map(_row, baseline), ""]
    for cells in (32, 64):
        plain, combined = (
            _total(parameter_ledger(NetworkConfig(lstm_cells_per_direction=cells, pooling=pooling), classes=4))
            for pooling in ("attention", "combined")
        )
        lines.append(f"{cells} LSTM cells a direction: baseline {plain:,}, combined attentive pooling {combined:,}")
        lines.append(f"  combined - baseline = +{combined - plain} = +{100 * (combined - plain) / plain:.3f} %")
    return [*lines, "the paper: 383K for the baseline, around +0.07 % for combined attentive pooling (section 4.3)"]


def _total(rows: Iterable[LedgerRow]) -> int:
    return sum(row.parameters for row in rows)


def _row(row: LedgerRow) -> str:
    shape = " x ".join(map(str, row.shape))
    return f"  {row.part:<36}{shape:<20}{row.parameters:>9,}"
