import csv
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from datamodules.examples import rad
from datamodules.examples.example import Amount
from datamodules.examples.phantom_volume import PhantomVolume, phantom_volume
from datamodules.examples.rad import write_volume
from datamodules.examples.rad_metadata import MACHINES, metadata
from datamodules.phantoms.patient import Patient
from datamodules.phantoms.profiles import REFERENCE

SMALL = Amount(sites=3, patients=4, size=32, slices=12)
HEADER = (
    "VolumeAcc_DEID,NoteAcc_DEID,MRN_DEID,Set_Assigned,Subset_Assigned,PatientAge,PatientSex,"
    "EthnicGroup,Manufacturer,ManufacturerModelName,InstitutionName,StationName,SoftwareVersions,"
    "ConvolutionKernel,ProtocolName,StudyDescription,Modality,SliceThickness,SpacingBetweenSlices,"
    "KVP,IterativeReconAnnotation,IterativeReconConfiguration,IterativeReconLevel,ReconAlgo,"
    "ReconAlgoManuf,orig_square,orig_numslices,orig_slope,orig_inter,orig_yxspacing,orig_zdiff,"
    "orig_orientation,orig_gantry_tilt,shape0,shape1,shape2,infection_to_lung_ratio,"
    "binary_infection_to_lung_ratio,client"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rad")
    assert len(list(rad.make(folder, SMALL))) == 12
    return folder


@pytest.fixture(scope="module")
def rows(root: Path) -> list[dict[str, str]]:
    with (root / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def ball(infected: int) -> PhantomVolume:
    """A volume with 200 voxels of lung."""
    lung, mask = np.zeros((4, 10, 10), dtype=bool), np.zeros((4, 10, 10), dtype=np.uint8)
    lung[:2] = True
    mask.ravel()[:infected] = 1
    return PhantomVolume(lung.astype(np.int16), mask, lung, np.diag([3.0, 2.0, 2.0, 1.0]))


def test_table_has_the_columns_of_the_data_set(root: Path) -> None:
    assert (root / "metadata.csv").read_text().splitlines()[0] == HEADER


def test_every_row_has_a_volume_and_every_volume_a_row(
    root: Path, rows: list[dict[str, str]]
) -> None:
    assert [row["NoteAcc_DEID"] for row in rows] == [f"trn{n:05d}" for n in range(1, 16)]
    files = sorted(path.name for path in root.iterdir())
    assert files == ["metadata.csv", *(row["VolumeAcc_DEID"] for row in rows)]
    for row in rows:
        with np.load(root / row["VolumeAcc_DEID"]) as stored:
            assert stored.files == ["ct"]
            volume = stored["ct"]
        assert volume.dtype == np.int16
        assert [str(n) for n in volume.shape] == [row[f"shape{axis}"] for axis in range(3)]
        assert volume.shape == (12, 32, 32)
        assert -1000 <= volume.min() < volume.max() <= 1000


def test_half_of_every_clients_patients_have_an_infected_lung(rows: list[dict[str, str]]) -> None:
    for client in ("1", "2", "3"):
        labels = {
            row["MRN_DEID"]: row["binary_infection_to_lung_ratio"]
            for row in rows
            if row["client"] == client
        }
        assert sorted(labels.values()) == ["0", "0", "1", "1"]
    for row in rows:
        infected = row["binary_infection_to_lung_ratio"] == "1"
        assert (float(row["infection_to_lung_ratio"]) > 0.02) == infected


def test_ratio_is_infected_over_all_voxels_of_lung() -> None:
    row = metadata("trn00001", "mrn00001", 1, MACHINES[0], ball(infected=14))
    assert float(row["infection_to_lung_ratio"]) == pytest.approx(14 / 200)
    assert row["binary_infection_to_lung_ratio"] == 1
    healthy = metadata("trn00001", "mrn00001", 1, MACHINES[0], ball(infected=0))
    assert float(healthy["infection_to_lung_ratio"]) == 0
    assert healthy["binary_infection_to_lung_ratio"] == 0


def test_every_fourth_patient_came_twice(root: Path, rows: list[dict[str, str]]) -> None:
    twice = [(a, b) for a, b in pairwise(rows) if a["MRN_DEID"] == b["MRN_DEID"]]
    assert [a["MRN_DEID"] for a, _ in twice] == ["mrn00004", "mrn00008", "mrn00012"]
    for first, second in twice:
        for same in ("client", "binary_infection_to_lung_ratio", "PatientAge", "PatientSex"):
            assert first[same] == second[same]
        volumes = [np.load(root / row["VolumeAcc_DEID"])["ct"] for row in (first, second)]
        assert (volumes[0] != volumes[1]).mean() > 0.3


def test_values_are_written_as_the_data_set_writes_them(rows: list[dict[str, str]]) -> None:
    assert [row["client"] for row in rows] == [c for c in "123" for _ in range(5)]
    ages = [row["PatientAge"] for row in rows]
    assert all(len(age) == 4 and age[:3].isdigit() and age[3] == "Y" for age in ages)
    assert {row["orig_orientation"] for row in rows} == {"1,0,0,0,1,0"}
    assert {(row["Manufacturer"], row["SpacingBetweenSlices"]) for row in rows} == {
        ("GE MEDICAL SYSTEMS", "13.3333"),
        ("SIEMENS", "ATTR_VALUE_NOT_FOUND"),
        ("GE MEDICAL SYSTEMS", "ATTR_VALUE_NOT_FOUND"),
    }
    assert {row["SliceThickness"] for row in rows} == {"0.625", "1.0", "2.5"}
    assert not any(value == "" for row in rows for value in row.values())


def test_dense_bone_is_cut_off_as_in_the_data_set(tmp_path: Path) -> None:
    volume = phantom_volume(Patient(1, 12, 32, REFERENCE))
    volume.hu[0, 0, :3] = (-1024, 1500, 40)
    write_volume(tmp_path / "a.npz", volume)
    assert np.load(tmp_path / "a.npz")["ct"][0, 0, :3].tolist() == [-1000, 1000, 40]


def test_making_it_again_gives_the_same_bytes_at_any_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    list(rad.make(tmp_path, SMALL))
    for path in root.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_seed_makes_other_patients(root: Path, tmp_path: Path) -> None:
    list(rad.make(tmp_path, Amount(sites=1, patients=3, size=32, slices=12, seed=1)))
    assert (tmp_path / "trn00001.npz").read_bytes() != (root / "trn00001.npz").read_bytes()
