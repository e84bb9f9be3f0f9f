"""Federated methods, one file each; to add one, write a file and name it here."""

from lightning_fl.algorithms.base import Algorithm as Algorithm
from lightning_fl.algorithms.base import LocalFit as LocalFit
from lightning_fl.algorithms.centralised import Centralised as Centralised
from lightning_fl.algorithms.ditto import Ditto as Ditto
from lightning_fl.algorithms.fedavg import FedAvg as FedAvg
from lightning_fl.algorithms.fedper import FedPer as FedPer
from lightning_fl.algorithms.fedprox import FedProx as FedProx
from lightning_fl.algorithms.fedrep import FedRep as FedRep
from lightning_fl.algorithms.late_local import LateLocal as LateLocal
from lightning_fl.algorithms.local import Local as Local
from lightning_fl.algorithms.per_fedavg import PerFedAvg as PerFedAvg
from lightning_fl.algorithms.scaffold import Scaffold as Scaffold
from lightning_fl.algorithms.server import GlobalRound as GlobalRound
from lightning_fl.algorithms.server import ServerAdam as ServerAdam
from lightning_fl.algorithms.server import ServerMomentum as ServerMomentum
from lightning_fl.algorithms.server import ServerOptimizer as ServerOptimizer
