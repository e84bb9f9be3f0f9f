"""Attacks on what the parties of a federation see."""

from lightning_fl.audit.attacks.dlg import dlg as dlg
from lightning_fl.audit.attacks.gradients import TaskGradient as TaskGradient
from lightning_fl.audit.attacks.gradients import mean_gradient as mean_gradient
from lightning_fl.audit.attacks.idlg import idlg as idlg
from lightning_fl.audit.attacks.image_scores import image_scores as image_scores
from lightning_fl.audit.attacks.inverting import invert_gradient as invert_gradient
from lightning_fl.audit.attacks.local_steps import LocalSteps as LocalSteps
from lightning_fl.audit.attacks.matching import Matching as Matching
from lightning_fl.audit.attacks.matching import Reconstruction as Reconstruction
from lightning_fl.audit.attacks.targets import HiddenLabel as HiddenLabel
from lightning_fl.audit.attacks.targets import HiddenMask as HiddenMask
from lightning_fl.audit.attacks.targets import Known as Known
from lightning_fl.audit.audit_settings import Audit as Audit
