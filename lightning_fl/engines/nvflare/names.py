"""Import paths of what the job builds, which a server and a site have to allow by name."""

JOB_MODULE = "lightning_fl.engines.nvflare.job"
SERVER_CLASSES = (
    f"{JOB_MODULE}.CoordinatorSide",
    "nvflare.collab.runtime.controller.CollabController",
)
EXECUTOR = "nvflare.collab.runtime.executor.CollabExecutor"
SITE_CLASSES = (f"{JOB_MODULE}.SiteSide", EXECUTOR)
SIMULATED_CLASSES = (f"{JOB_MODULE}.SimulatedSide", EXECUTOR)
