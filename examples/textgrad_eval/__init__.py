"""TextGrad's published evaluation, in small: three stages, three optimizers, one local model."""

from __future__ import annotations

from trace_adapters_textgrad import TGD as TGD  # first: so TextGrad is imported without making a log folder here
