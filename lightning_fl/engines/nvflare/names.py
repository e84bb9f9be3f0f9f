"""Names that the sides of the job share; a server and a site have to allow its classes."""

PING = "ping"
"""The operation that a site's process answers at once, whatever it is doing."""
JOB_MODULE = "lightning_fl.engines.nvflare.job"
SERVER_CLASSES = (
    f"{JOB_MODULE}.CoordinatorSide",
    "nvflare.collab.runtime.controller.CollabController",
)
SITE_CLASSES = (
    f"{JOB_MODULE}.SiteSide",
    "nvflare.collab.runtime.executor.CollabExecutor",
)
