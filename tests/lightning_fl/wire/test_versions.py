import torch

from lightning_fl.wire.versions import machine, package_versions


def test_what_decides_numbers_besides_settings_is_named() -> None:
    assert package_versions()["torch"] == torch.__version__.partition("+")[0]
    facts = machine()
    assert facts["processor"]
    assert facts["threads"] == torch.get_num_threads()
    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
