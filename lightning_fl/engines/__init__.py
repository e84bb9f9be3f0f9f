"""Where sites live while a federation runs; each engine is a transport and a host of sites."""

from lightning_fl.engines.base import Engine as Engine
from lightning_fl.engines.local import Local as Local
from lightning_fl.engines.nvflare import NVFlare as NVFlare
from lightning_fl.engines.ray.engine import Ray as Ray
