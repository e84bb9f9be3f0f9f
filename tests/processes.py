"""Processes that a test may have left."""

from pathlib import Path


def children() -> set[str]:
    """Processes started by this one."""
    task = Path("/proc/self/task")
    ids = {child for t in task.iterdir() for child in (t / "children").read_text().split()}
    # multiprocessing's tracker of resources stays
    return {i for i in ids if "spawn_main" in Path(f"/proc/{i}/cmdline").read_text()}
