"""`affekt info`: the parameter ledger and this machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from affekt.environment import environment

if TYPE_CHECKING:
    from affekt.nn import LedgerRow


def info() -> int:
    """The parameter ledger of the paper's networks, and this machine.

    The ledger lists every trainable tensor of the baseline of Zhou & Liu (2020), its size counted on the network
    itself, and what combined attentive pooling and 64 LSTM cells a direction add to it.
    """
    print("\n".join(aligned(environment().items())))
    print()
    print("\n".join(_ledger_lines()))
    return 0


def aligned(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names and values in two columns.

    >>> aligned([("cpu", "Z80"), ("cores", "1")])
    ['cpu    Z80', 'cores  1']
    """
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"{name:<{width}}  {value}" for name, value in pairs]


def _ledger_lines() -> list[str]:
    try:
        from affekt.nn import NetworkConfig, parameter_ledger
    except ModuleNotFoundError:
        return ["parameter ledger: it is counted on the networks; pip install 'affekt[train]'"]
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
