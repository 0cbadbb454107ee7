"""Figures quoted from the paper: Zhou & Liu 2020, Tables 1 and 2, in percent.

They were obtained on IEMOCAP under the paper's protocol. Nothing is computed from them. The paper itself quotes those
of Table 1 from work on different subsets and splits. A measured figure can be compared with them only as a *difference*
to the baseline, and on another corpus not even so.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "Quoted from Zhou & Liu, Speech Emotion Recognition with Discriminative Feature Learning, Interspeech 2020: "
    "IEMOCAP, 5531 utterances, random split 0.55 : 0.25 : 0.2, 5-fold cross-validation."
)
CLAIM_POINTS = 4.0
"""Section 4.3: "overall at least 4.0% absolute improvements were achieved by all 3 proposed SER systems"."""

HAPPY_RELATIVE_PERCENT = 13.0
"""Section 4.3: with focal loss "up to 13% relative improvement was achieved on happy"."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one of the paper's tables.

    Attributes:
        name: as printed.
        ua, wa: percent; the first table has no WA.
        systems: names of this system, with these settings, in affekt.

    >>> Row("AMS s = 10, m = 0.4", 66.7, 65.6, ("am-softmax",)).gain
    4.4
    """

    name: str
    ua: float
    wa: float | None
    systems: tuple[str, ...]

    @property
    def gain(self) -> float:
        """UA above the paper's own baseline, in percentage points."""
        return round(self.ua - BASELINE_UA, 1)


BASELINE_UA = 62.3

TABLE_1 = (
    Row("LSTM [11]", 57.1, None, ("lstm",)),
    Row("LSTM + Att [12]", 59.6, None, ("lstm-attention",)),
    Row("RNN + Att [13]", 59.7, None, ("rnn-attention",)),
    Row("CNN + BLSTM [14]", 59.4, None, ("cnn-blstm",)),
    Row("TDNN + LSTM [4]", 60.7, None, ("tdnn-lstm",)),
    Row("ResNet + MHA [3]", 67.4, None, ("resnet-mha",)),
    Row("3D CRNN [1]", 64.7, None, ("crnn-3d",)),
    Row("The proposed baseline", BASELINE_UA, None, ("baseline",)),
)

TABLE_2 = (
    Row("Baseline", BASELINE_UA, 61.0, ("baseline",)),
    Row("AMS s = 10, m = 0.1", 65.7, 64.7, ("am-softmax-s10-m0.1",)),
    Row("AMS s = 10, m = 0.2", 65.0, 63.6, ("am-softmax-s10-m0.2",)),
    Row("AMS s = 10, m = 0.4", 66.7, 65.6, ("am-softmax-s10-m0.4", "am-softmax")),
    Row("AMS s = 30, m = 0.1", 65.1, 63.7, ("am-softmax-s30-m0.1",)),
    Row("AMS s = 30, m = 0.2", 63.2, 63.5, ("am-softmax-s30-m0.2",)),
    Row("AMS s = 30, m = 0.4", 64.2, 63.6, ("am-softmax-s30-m0.4",)),
    Row("FL γ = 2, α = 1", 66.1, 64.9, ("focal-g2-a1",)),
    Row("FL γ = 2, α = 2", 66.3, 65.5, ("focal-g2-a2", "focal")),
    Row("FL γ = 2, α = 4", 65.8, 65.2, ("focal-g2-a4",)),
    Row("FL γ = 5, α = 1", 66.5, 65.0, ("focal-g5-a1",)),
    Row("FL γ = 5, α = 2", 65.8, 64.6, ("focal-g5-a2",)),
    Row("FL γ = 5, α = 4", 65.8, 64.1, ("focal-g5-a4",)),
    Row("Combined attentive pooling", 66.7, 65.2, ("combined",)),
)
