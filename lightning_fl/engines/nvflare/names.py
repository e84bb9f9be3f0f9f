"""Import paths of what NVFlare's processes build by name."""

JOB_MODULE = "lightning_fl.engines.nvflare.job"
EXECUTOR = "nvflare.collab.runtime.executor.CollabExecutor"
SERVER_CLASSES = (
    f"{JOB_MODULE}.CoordinatorSide",
    "nvflare.collab.runtime.controller.CollabController",
)
SITE_CLASSES = (f"{JOB_MODULE}.SiteSide", EXECUTOR)
SIMULATED_CLASSES = (f"{JOB_MODULE}.SimulatedSide", EXECUTOR)
"""Classes of the job; a server and a site have to allow theirs by name."""
HOSPITAL_MODULE = "lightning_fl.hospital.hospital"
"""The module of a site's host. An engine stands below hospitals and imports none, so the job loads
it by this name, as NVFlare loads the job's classes."""
