from pathlib import Path
from typing import Any

import pytest

from datamodules.rad_chest.site_rule import SiteRule
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.rad_chest.npz_volumes import rad, row, save, volume, write_table

LABEL = "binary_infection_to_lung_ratio"


def labels(root: Path, **settings: Any) -> list[int]:
    data = rad(root, **settings)
    dataset: Any = data.dataset("1", data.patients("1"), augment=False)
    return [int(row.labels["label"]) for row in dataset.rows]


def rewrite(root: Path, **changes: str) -> None:
    """Change the row of the fourth volume, the fifth line."""
    write_table(root, [row(n, "1", **(changes if n == 3 else {})) for n in range(5)])


def test_sites_and_patients(root: Path) -> None:
    data = rad(root)
    assert data.site_names() == ("1", "2")
    assert data.patients("1") == ("mrn0000", "mrn0001", "mrn0002", "mrn0003", "mrn0004")
    assert rad(root, sites=["2"]).site_names() == ("2",)
    assert rad(root, sites=["2", "1"]).site_names() == ("2", "1")


def test_rows_of_hospitals_that_are_not_used_need_not_be_complete(root: Path) -> None:
    rows = [row(n, "1") for n in range(5)]
    rows += [row(5, "2", **{LABEL: ""}), row(6, "")]
    write_table(root, rows)
    assert rad(root, sites=["1"]).site_names() == ("1",)
    with pytest.raises(ConfigError, match=r"there are \['1', '2'\]"):
        rad(root, sites=["3"])


def test_a_table_in_another_encoding_is_named(root: Path) -> None:
    (root / "metadata.csv").write_bytes("VolumeAcc_DEID;Größe".encode("latin-1"))
    with pytest.raises(DataError, match=r"metadata\.csv cannot be read as a table .* in UTF-8"):
        rad(root)


def test_a_patients_scans_stay_together(root: Path) -> None:
    data = rad(root)
    dataset: Any = data.dataset("1", ["mrn0000", "mrn0002"], augment=False)
    names = [row.images[0].stem for row in dataset.rows]
    assert names == ["trn00000", "trn00002", "trn00010"]
    for seed in range(5):
        split = data.for_site("1", seed).split("1")
        assert sorted(split.train + split.val + split.test) == list(data.patients("1"))


def test_labels_may_be_written_as_fractions(root: Path) -> None:
    assert labels(root) == [0, 1, 0, 1, 0, 0]
    rewrite(root, **{LABEL: "1.0"})
    assert labels(root) == [0, 1, 0, 1, 0]


def test_ids_may_lack_their_suffix(root: Path) -> None:
    rewrite(root, VolumeAcc_DEID="trn00003")
    assert labels(root) == [0, 1, 0, 1, 0]


def test_without_record_numbers_each_note_is_a_patient(root: Path) -> None:
    rows = [row(n, "1") for n in range(4)]
    for line in rows:
        del line["MRN_DEID"]
    write_table(root, rows)
    assert rad(root).patients("1") == ("trn00000", "trn00001", "trn00002", "trn00003")


def test_any_column_names_patients_and_labels(root: Path) -> None:
    write_table(root, [row(n, "1", grade=str(n), person=f"p{n // 2}") for n in range(4)])
    assert rad(root, patient="person").patients("1") == ("p0", "p1")
    assert labels(root, label="grade", classes=4) == [0, 1, 2, 3]


def test_table_and_volumes_may_lie_elsewhere(root: Path) -> None:
    (root / "npz").mkdir()
    save(root / "npz" / "trn00000.npz", ct=volume(0))
    write_table(root, [row(0, "1")])
    table = (root / "metadata.csv").rename(root / "other.csv")
    assert rad(root, metadata="other.csv", volumes="npz").site_names() == ("1",)
    assert rad(root, metadata=str(table)).site_names() == ("1",)


def test_manufacturers_become_names_of_files(root: Path) -> None:
    rewrite(root, Manufacturer="Philips / Marconi")
    assert rad(root, sites_by="Manufacturer").site_names() == (
        "GE-MEDICAL-SYSTEMS",
        "Philips-Marconi",
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [("1", "1"), ("2.0", "2"), ("2.5", "2.5"), ("../x", "x"), ("Köln 3", "Köln-3")],
)
def test_site_names(text: str, name: str) -> None:
    assert SiteRule("client").name(text, "here") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0.625", "below-1"),
        ("1", "1-to-2.5"),
        ("2.4", "1-to-2.5"),
        ("2.5", "2.5-and-above"),
        ("5", "2.5-and-above"),
    ],
)
def test_thickness_bins_include_their_lower_limit(text: str, name: str) -> None:
    assert SiteRule("SliceThickness", (1.0, 2.5)).name(text, "here") == name


def test_bins_make_hospitals(root: Path) -> None:
    rewrite(root, SliceThickness="2.5")
    data = rad(root, sites_by="SliceThickness", bins=[1.0])
    assert data.site_names() == ("1-and-above", "below-1")
    assert data.patients("1-and-above") == ("mrn0003",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({LABEL: "0.5"}, r"line 5: binary.* is '0.5', but with `classes: 2`.* 0 to 1\. Correct"),
        ({LABEL: "2"}, r"line 5: binary.* is '2', but"),
        ({LABEL: "yes"}, r"line 5: binary.* is 'yes', but"),
        ({LABEL: ""}, r"line 5: binary.* is ''\. Fill it in, or remove the row"),
        ({"client": " "}, r"line 5: client is ''\. Fill it in, or remove the row"),
        ({"client": "--"}, r"line 5: client is '--', which has no letter or digit"),
        ({"MRN_DEID": "ATTR_VALUE_NOT_FOUND"}, r"line 5: MRN_DEID is 'ATTR_VALUE_NOT_FOUND'\."),
        (
            {"VolumeAcc_DEID": "trn00001"},
            r"line 5: .*trn00001\.npz is in .*line 3, too; remove one",
        ),
        ({"VolumeAcc_DEID": "trn9"}, r"line 5: there is no file .*trn9\.npz\. Add"),
        (
            {"MRN_DEID": "mrn0001", "client": "7"},
            r"line 5: patient 'mrn0001' has site '7', but '1' in .*line 3\. .* correct the site",
        ),
    ],
)
def test_rows_that_cannot_be_used(root: Path, changes: dict[str, str], message: str) -> None:
    rewrite(root, **changes)
    with pytest.raises(DataError, match=rf"metadata\.csv.*{message}"):
        rad(root)


def test_bins_need_numbers(root: Path) -> None:
    rewrite(root, SliceThickness="thin")
    with pytest.raises(DataError, match=r"line 5: SliceThickness is 'thin', which is no number"):
        rad(root, sites_by="SliceThickness", bins=[1.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "grade"}, r"no column 'grade'\. Its columns are VolumeAcc_DEID, .*`label`"),
        ({"sites_by": "x", "patient": "y"}, r"no column 'y', 'x'\. Its columns"),
        ({"metadata": "m.csv"}, r"no table .*m\.csv \(looked in"),
        ({"volumes": "npz"}, r"no folder .*npz \(looked in .*set `root`"),
        ({"sites": ["1", "3"]}, r"`sites` is \['1', '3'\].*there are \['1', '2'\]"),
        ({"sites": ["1", "1"]}, "once each"),
        ({"sites": []}, "has to name hospitals"),
        ({"bins": [3, 1]}, r"`bins` to be ascending numbers.* got \(?\[3, 1\]"),
        ({"thickness": {"7": 5}}, r"`thickness` names \['7'\], but the hospitals are \['1', '2'\]"),
        ({"thickness": {"1": 11}}, "`thickness` to be between 1 and 10, .* but got 11"),
        ({"size": 7}, "`size` to be at least 8, but got 7"),
        ({"width": 0}, "`width` to be positive, but got 0"),
        ({"classes": 1}, "`classes` to be at least 2, but got 1"),
    ],
)
def test_settings_that_cannot_work(root: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rad(root, **settings)


def test_an_empty_table_has_no_hospital(root: Path) -> None:
    text = (root / "metadata.csv").read_text(encoding="utf-8-sig")
    (root / "metadata.csv").write_text(text.splitlines()[0] + "\n")
    with pytest.raises(ConfigError, match=r"there are \[\]"):
        rad(root)
