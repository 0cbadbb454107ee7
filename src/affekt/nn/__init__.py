"""The paper's network, its parts, and the poolings that can stand in for the paper's."""

from __future__ import annotations

from affekt.nn.network import Head, LedgerRow, Network, NetworkConfig, Output, ledger, parameter_ledger
from affekt.nn.pooling import POOLINGS

__all__ = ["POOLINGS", "Head", "LedgerRow", "Network", "NetworkConfig", "Output", "ledger", "parameter_ledger"]
