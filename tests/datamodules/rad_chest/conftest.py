from pathlib import Path

import pytest

from tests.datamodules.rad_chest.npz_volumes import row, save, volume, write_table


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two hospitals of five patients; patient 0 has two scans."""
    rows = [row(n, "1" if n < 5 else "2") for n in range(10)]
    rows.append(row(10, "1", MRN_DEID="mrn0000"))
    write_table(tmp_path, rows)
    for n in range(11):
        save(tmp_path / f"trn{n:05d}.npz", ct=volume(n))
    return tmp_path
