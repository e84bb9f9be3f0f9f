"""Sites in processes of NVFlare: simulated on one machine, or of hospitals with mutual TLS."""

from lightning_fl.engines.nvflare.engine import NVFlare as NVFlare
