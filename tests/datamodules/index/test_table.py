import re
from pathlib import Path
from typing import Any

import pytest

from datamodules import Table
from datamodules.index import Row
from lightning_fl.errors import ConfigError, DataError

FILES = ("a.png", "b.png", "m.png", "t1.nii.gz", "t2.nii.gz")


def table(folder: Path, text: str, encoding: str = "utf-8", **settings: Any) -> Table:
    for file in FILES:
        (folder / file).touch()
    path = folder / "data.csv"
    path.write_text(text, encoding)
    return Table(path, **settings)


def rows(folder: Path, text: str, **settings: Any) -> tuple[Row, ...]:
    return table(folder, text, **settings).rows()


def test_a_row_holds_what_its_line_says(tmp_path: Path) -> None:
    text = "site,patient,image,mask,split,fold,scanner\nA,P1,a.png,m.png,Training,2,X\n"
    [row] = rows(tmp_path, text)
    assert row == Row(
        *("A", "P1", (tmp_path / "a.png",), tmp_path / "m.png", {}, "train", 2),
        f"{tmp_path / 'data.csv'}, line 2",
        {**row.others},
    )
    assert row.others["scanner"] == "X"


def test_semicolons_byte_order_mark_spaces_and_blank_rows(tmp_path: Path) -> None:
    text = "site; patient; image; label\nA;P1;a.png;0\n;;;\nA; P2 ;b.png; 1\n,,\n"
    first, second = rows(tmp_path, text, encoding="utf-8-sig")
    assert (first.site, first.patient, second.patient) == ("A", "P1", "P2")
    assert second.labels == {"label": 1.0}
    assert second.place.endswith("line 4")


def test_tabs(tmp_path: Path) -> None:
    [row] = rows(tmp_path, "site\tpatient\timage\tmask\nA\tP1\ta.png\tm.png\n")
    assert row.mask == tmp_path / "m.png"


def test_channels_follow_their_names_and_suffixes_may_be_left_out(tmp_path: Path) -> None:
    text = "site,patient,image_t2,image_t1,mask\nA,P1,t2,t1,m\n"
    [row] = rows(tmp_path, text)
    assert [path.name for path in row.images] == ["t1.nii.gz", "t2.nii.gz"]


def test_other_names_of_columns_and_of_classes(tmp_path: Path) -> None:
    text = "lesion_id,image_id,dx\nL1,a,nv\nL2,b,mel\n"
    columns = {"patient": "lesion_id", "image": "image_id", "label": "dx"}
    settings = {"columns": columns, "classes": ["mel", "nv"]}
    first, second = rows(tmp_path, text, site="A", **settings)
    assert (first.site, first.patient, first.labels) == ("A", "L1", {"label": 1.0})
    assert second.labels == {"label": 0.0}


def test_columns_that_make_paths_and_patients(tmp_path: Path) -> None:
    columns = {"site": "Partition_ID", "patient": "Subject", "image": "{Subject}/{Subject}_t1"}
    (tmp_path / "S1").mkdir()
    (tmp_path / "S1" / "S1_t1.nii.gz").touch()
    text = "Partition_ID,Subject\n3,S1\n"
    [row] = rows(tmp_path, text, columns=columns | {"mask": "{Subject}/{Subject}_t1"})
    assert (row.site, row.patient, row.mask) == ("3", "S1", tmp_path / "S1" / "S1_t1.nii.gz")
    text = "Path,Edema\nS1/S1_t1.nii.gz,1\n"
    columns = {"image": "Path", "label_edema": "Edema"}
    [row] = rows(tmp_path, text, columns=columns, site="A", patient="(S[0-9]+)/")
    assert (row.patient, row.labels) == ("S1", {"edema": 1.0})
    with pytest.raises(DataError, match="has no column Centre; "):
        rows(tmp_path, text, columns=columns | {"site": "c{Centre}"}, patient="file")


def test_several_labels_of_which_some_are_missing(tmp_path: Path) -> None:
    text = "site,patient,image,label_edema,label_mass\nA,P1,a.png,1,\n"
    [row] = rows(tmp_path, text)
    assert row.labels == pytest.approx({"edema": 1.0, "mass": float("nan")}, nan_ok=True)


HEAD = "site,patient,image,mask,split\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,image,mask\n", r"data\.csv has no column site; its columns are \['patient'.*Add"),
        ("site,patient,mask\n", "has no column image;"),
        ("site,patient,image\n", "has no column mask or label;"),
        ("site,patient,image,image,mask\n", "has two columns 'image'; rename"),
        (HEAD, "has no row below its header; add"),
        ("", "cannot be read as a table"),
        (HEAD + "A,P1,a.png,m.png,train,more\n", "cannot be read as a table .*Expected 5 fields"),
        (HEAD + "A,P1,a.png,m.png,trian\n", r"line 2: the split is 'trian'; expected train, val"),
        (HEAD + "A,,a.png,m.png,\n", "line 2: site, patient or image is empty. Fill"),
        (HEAD + "A,P1,a.png,,\n", "line 2: a.png has no mask. Name it, or remove"),
        (HEAD + "A,P1,c.png,m.png,\n", "line 2: there is no file .*c.png. Add it"),
        (HEAD + "A,P1,../a.png,m.png,\n", r"line 2: '\.\./a\.png' lies outside of .*set `root`"),
        (HEAD + "A,P1,/etc/passwd,m.png,\n", "line 2: '/etc/passwd' lies outside of"),
        (
            HEAD + "A,P1,a.png,m.png,train\nA,P1,b.png,m.png,test\n",
            "line 3: patient 'P1' has part 'test', but 'train' in .*line 2. .*one part",
        ),
        (
            HEAD + "A,P1,a.png,m.png,\nB,P1,b.png,m.png,\n",
            "line 3: patient 'P1' has site 'B', but 'A' in .*line 2. .*one site",
        ),
        (HEAD + "A,P1,a.png,m.png,\nA,P1,a.png,m.png,\n", r"line 3: .*a\.png is in .*line 2, too"),
        (
            "site,patient,image,mask,fold\nA,P1,a.png,m.png,one\n",
            "line 2: the fold is 'one'; expected a whole number",
        ),
        (
            "site,patient,image,label\nA,P1,a.png,nv\n",
            "line 2, column label: the label 'nv' is no number. List the names",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path, text)


def test_an_unknown_label_lists_the_known(tmp_path: Path) -> None:
    text = "site,patient,image,label\nA,P1,a.png,nevus\n"
    with pytest.raises(
        DataError, match=r"line 2, column label: the label is 'nevus', but `classes` are \['nv'"
    ):
        rows(tmp_path, text, classes=["nv", "mel"])


def test_patients_of_two_hospitals_may_share_a_name_if_wished(tmp_path: Path) -> None:
    text = HEAD + "A,P1,a.png,m.png,\nB,P1,b.png,m.png,\n"
    assert [row.site for row in rows(tmp_path, text, local_patients=True)] == ["A", "B"]


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"no table {tmp_path / 'no.csv'}")):
        Table(tmp_path / "no.csv").rows()


def test_a_column_that_stands_for_another_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no column diagnosis; .*or set `site` or `patient`"):
        rows(tmp_path, HEAD + "A,P1,a.png,m.png,\n", columns={"label": "diagnosis"})


def test_excel_tables_in_another_encoding_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Save it as CSV in UTF-8"):
        rows(tmp_path, "site,patient,image,mask\nKöln,P1,a.png,m.png\n", encoding="cp1252")


def test_a_column_fold_may_hold_the_split(tmp_path: Path) -> None:
    text = "site,patient,image,mask,fold\nA,P1,a.png,m.png,test\n"
    [row] = rows(tmp_path, text, columns={"split": "fold"})
    assert (row.part, row.fold) == ("test", None)
