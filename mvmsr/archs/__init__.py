"""Networks, and nothing but networks."""

from mvmsr.archs.compact import Compact
from mvmsr.archs.discriminators import NatSRDiscriminator, SRGANDiscriminator
from mvmsr.archs.flops import multiply_adds
from mvmsr.archs.metric_net import MetricNet
from mvmsr.archs.msrresnet import MSRResNet
from mvmsr.archs.nmd import NMD
from mvmsr.archs.nsrnet import NSRNet
from mvmsr.archs.param_count import count_parameters
from mvmsr.archs.rdn import RDN
from mvmsr.archs.spandrel_net import SpandrelNet
from mvmsr.archs.srresnet import SRResNet
from mvmsr.archs.vgg_features import VGG_LAYERS, VGGFeatures

__all__ = [
    "NMD",
    "RDN",
    "VGG_LAYERS",
    "Compact",
    "MSRResNet",
    "MetricNet",
    "NSRNet",
    "NatSRDiscriminator",
    "SRGANDiscriminator",
    "SRResNet",
    "SpandrelNet",
    "VGGFeatures",
    "count_parameters",
    "multiply_adds",
]
