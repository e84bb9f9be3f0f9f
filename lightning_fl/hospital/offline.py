"""Keep a hospital's process from fetching anything, whatever the settings of a run ask for."""

import os
import sys
from typing import Any

from huggingface_hub import constants

_state = {"offline": False, "hooked": False}


def go_offline() -> None:
    """Refuse downloads by urllib and by the Hugging Face hub, for the rest of this process.

    Weights that a net needs have to be in the cache beforehand. NVFlare's own connection to its
    server is made by other means and stays.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "WANDB_MODE": "offline"}
    constants.HF_HUB_OFFLINE = True  # the hub has read its variable when it was imported
    _state["offline"] = True
    if not _state["hooked"]:  # a hook cannot be taken away again
        sys.addaudithook(_refuse)
        _state["hooked"] = True


def go_online() -> None:
    """Allow downloads again, for tests that share a process."""
    constants.HF_HUB_OFFLINE = False
    _state["offline"] = False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "urllib.Request" and _state["offline"]:
        raise PermissionError(
            f"A run wants to fetch {str(arguments[0])[:80]!r}, but a hospital's process fetches "
            "nothing. Put the file into the cache of this account beforehand, if you trust it."
        )
