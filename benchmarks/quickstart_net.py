"""Build the network of configs/quickstart.yaml."""

import segmentation_models_pytorch as smp
from torch import nn


def quickstart_net(encoder: str = "tu-lcnet_050") -> nn.Module:
    """Return a U-Net for grey images, with another encoder than quickstart's if one is named."""
    net: nn.Module = smp.Unet(
        encoder,
        encoder_weights=None,
        encoder_depth=4,
        decoder_channels=[64, 32, 16, 16],
        in_channels=1,
        classes=1,
    )
    return net
