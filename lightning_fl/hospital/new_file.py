"""Write the text of a hospital's file that limits every run, for the hospital to complete."""

TEMPLATE = """\
# What this hospital says for itself. No coordinator can change it.

# Where runs leave this hospital's private state and its models, a folder for each run; relative
# to this file.
folder: ../runs

# Fingerprints of the hospitals' identities. With them this hospital verifies every round: it takes
# only weights and sums that the others have signed. Each hospital tells the others its own, by
# telephone or the like and not through the coordinator. This hospital's is in the comment.
# `pins: none` takes part without: then a coordinator that lies can read this hospital's updates.
# OWN
# pins: {A: 3f9c..., B: 81d0..., C: 07aa...}

# Folder of this hospital's identity, NAME.identity.pem; relative to this file.
identities: .

# Limits of every run.
rounds: 200         # the most rounds
least_sites: 3      # the fewest hospitals whose updates are summed
least_cases: 5      # the fewest patients of a split whose scores leave
decimals: 3         # to which scores are rounded; losses stay here. null: scores leave as they are
epsilon: null       # privacy budget of this hospital's data over all runs; needs `privacy` below
delta: 1.0e-5       # at which the budget is counted, whatever a run counts at
init: []            # SHA-256 of first weights that a run may begin with, once you approve them

# Laid over the settings of a run. The data's place (`root`, or `index` for Images and Volumes), the
# batch size and the device are set here alone; what a coordinator says of them is dropped.
settings:
  data:
    init_args:
      ROOT
      batch_size: 8
  trainer:
    accelerator: auto
    curves: false # true: the coordinator sees the loss and the speed of each round's training
  # Of the secure ring: others cannot see this hospital's updates.
  aggregator:
    init_args:
      masking: pairwise
      allow_two_sites: false
  # Differential privacy that every run must have here:
  # privacy:
  #   class_path: lightning_fl.privacy.SampleLevelDP
  #   init_args: {max_grad_norm: 1.0, target_epsilon: 8.0, delta: 1.0e-5}

# Classes that the settings of a run may name: one, or with .* all that a package defines. A run
# that names another is refused.
allow:
  - lightning_fl.aggregation.CyclicCKKS  # and not Plain, to which updates go in the clear
  - lightning_fl.algorithms.*
  - lightning_fl.privacy.*
  - lightning_fl.personalisation.*
  - models.*
  - datamodules.*
  - torch.optim.*
  - torchvision.transforms.v2.*
NETS
"""
"""Text of a new file; words in capitals are filled in."""
SMP = (
    *("DeepLabV3", "DeepLabV3Plus", "DPT", "FPN", "Linknet", "MAnet", "PAN", "PSPNet", "Segformer"),
    *("UPerNet", "Unet", "UnetPlusPlus"),
)
MONAI = (
    *(
        "AttentionUnet",
        "BasicUNet",
        "BasicUNetPlusPlus",
        "DenseNet121",
        "DynUNet",
        "EfficientNetBN",
    ),
    *("FlexibleUNet", "SEResNet50", "SegResNet", "SwinUNETR", "UNETR", "UNet", "VNet", "ViT"),
)
NETS = (
    *(f"segmentation_models_pytorch.{name}" for name in SMP),
    *(f"monai.networks.nets.{name}" for name in MONAI),
)
"""Nets of the two libraries that the template allows."""


def new_file(root: str, own: str = "") -> str:
    """Return the text of a new file.

    Args:
        root: the line of the data's place.
        own: what the comment says of this hospital's identity.
    """
    nets = "\n".join(f"  - {net}" for net in NETS)
    return TEMPLATE.replace("ROOT", root).replace("OWN", own).replace("NETS", nets)
