"""The files of an export: weights by name, or a traced network."""

import inspect
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.export.trained_net import TrainedNet
from lightning_fl.files import replacing, write_bytes

Shape = tuple[int, ...]


def write_state_dict(trained: TrainedNet, path: Path, shape: Shape | None) -> None:
    """Write the weights as safetensors, under the names that the user's network has."""
    trained.check_is_one_net()
    write_bytes(path, safetensors.torch.save(plain_state(trained.net)))


def write_torch_export(trained: TrainedNet, path: Path, shape: Shape | None) -> None:
    """Write the network as `torch.export.load` reads it, for batches of any size."""
    net, image = trained.net, _example(trained, shape)
    program = _traced(lambda: torch.export.export(net, (image,), dynamic_shapes=_any_batch(net)))
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        torch.export.save(program, file)


def write_onnx(trained: TrainedNet, path: Path, shape: Shape | None) -> None:
    """Write the network as ONNX, with the input "image" and the output "logits".

    Raises:
        ConfigError: a package is missing, or the network cannot be traced.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f'ONNX needs {" and ".join(missing)}: pip install "lightning-fl[export]".'
        )
    net, image = trained.net, _example(trained, shape)
    program: Any = _traced(
        lambda: torch.onnx.export(
            net,
            (image,),
            dynamo=True,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=_any_batch(net),
            verbose=False,
        )
    )
    with replacing(path) as unfinished:
        program.save(unfinished)


def plain_state(net: nn.Module) -> dict[str, Tensor]:
    """Copy the entries of a network, each in memory of its own."""
    return {name: value.detach().clone().contiguous() for name, value in net.state_dict().items()}


def _example(trained: TrainedNet, shape: Shape | None) -> Tensor:
    """Return two images to trace with; torch takes a batch of one for a constant."""
    if shape is None:
        raise ConfigError(
            "A network is traced with an image, so its shape is needed: channels and size, e.g. "
            "--shape 1 96 96."
        )
    images = torch.zeros(2, *shape)
    try:
        with torch.no_grad():
            trained.net(images)
    except (RuntimeError, ValueError, AssertionError) as error:  # AssertionError: timm
        raise ConfigError(
            f"The network cannot take images of shape {shape}: {error} Give --shape as the run's "
            "images have it."
        ) from error
    return images


def _any_batch(net: nn.Module) -> Any:
    """Say that the first axis of the only input may have any length."""
    axes = {0: torch.export.Dim.DYNAMIC}
    first = next(iter(inspect.signature(net.forward).parameters.values()))
    return ((axes,),) if first.kind is first.VAR_POSITIONAL else (axes,)


def _traced(trace: Callable[[], Any]) -> Any:
    """Trace a network.

    Raises:
        ConfigError: it cannot be traced.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about itself
            return trace()
    except Exception as error:  # torch raises a dozen kinds
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"torch cannot trace the network ({type(error).__name__}: {reason}). Export its "
            "weights by --to state_dict, and build the network from its own code."
        ) from error
