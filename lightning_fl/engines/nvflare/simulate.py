"""Simulate the job on this machine, in a process of its own that `SimulatedJobs` starts."""

import json
import sys
from pathlib import Path

from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.recipe import SimEnv

from lightning_fl.engines.nvflare.job import JOB, Recipe
from lightning_fl.engines.nvflare.names import SERVER_CLASSES, SIMULATED_CLASSES


def main(post: str, workspace: str, names: str, gpus: str = "") -> None:
    """Run the job to its end, with the arguments that `SimulatedJobs` gives."""
    clients: dict[str, str] = json.loads(names)
    allow(Path(workspace) / JOB / "local")
    recipe = Recipe(post, clients, simulated=True)
    sites = list(clients.values())
    recipe.execute(SimEnv(clients=sites, gpu_config=gpus or None, workspace_root=workspace))


def allow(local: Path) -> None:
    """Let the simulated server and sites build the classes of the job, and only these."""
    local.mkdir(parents=True, exist_ok=True)
    allowed = [*DEFAULT_CLASS_ALLOW_LIST, *SERVER_CLASSES, *SIMULATED_CLASSES]
    resources = {"format_version": 2, "class_allow_list": allowed}
    (local / "resources.json").write_text(json.dumps(resources))


if __name__ == "__main__":
    main(*sys.argv[1:])
