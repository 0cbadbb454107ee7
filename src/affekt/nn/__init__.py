"""Networks: the paper's network and its parts, alternative poolings, encoders, and prior systems."""

from __future__ import annotations

from affekt.nn.network import Head, LedgerRow, Network, NetworkConfig, Output, ledger, parameter_ledger
from affekt.nn.pooling import POOLINGS

__all__ = ["POOLINGS", "Head", "LedgerRow", "Network", "NetworkConfig", "Output", "ledger", "parameter_ledger"]
