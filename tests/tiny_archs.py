"""Arguments that make a tiny network of every architecture; the tests of all networks run with what stands here."""

from __future__ import annotations

from typing import Any

Arguments = dict[str, dict[str, Any]]

GENERATORS: Arguments = {
    "SRResNet": {"num_feat": 8, "num_block": 2},
    "MSRResNet": {"num_feat": 8, "num_block": 2},
    "RDN": {"num_feat": 8, "num_block": 2, "num_layer": 2, "num_grow_ch": 4},
    "NSRNet": {"num_feat": 8, "num_layer": 2},
    "Compact": {"num_feat": 8, "num_conv": 2},
}
"""Those that are built for a scale, given as `upscale`."""
DISCRIMINATORS: Arguments = {
    "SRGANDiscriminator": {"num_feat": 4},
    "NatSRDiscriminator": {"num_feat": 4},
    "NMD": {"num_feat": 4},
}
METRIC_NETS: Arguments = {"MetricNet": {"num_feat": 4, "embedding_dim": 6}}
