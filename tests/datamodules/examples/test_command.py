from pathlib import Path

import pytest

from datamodules.examples.__main__ import main

TINY = ["--sites", "1", "--patients", "3", "--size", "32", "--slices", "12"]


@pytest.mark.parametrize(
    ("task", "config", "files"),
    [("rad", "rad_chestct", 4), ("covid", "covid_ct", 6)],
)
def test_says_what_it_made_and_how_to_train_on_it(
    task: str, config: str, files: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "example"
    assert main([task, str(out), *TINY]) == 0
    assert len([path for path in out.rglob("*") if path.is_file()]) == files
    made, _, command = capsys.readouterr().out.splitlines()
    assert made.startswith(f"Made 3 patients in {files} files (")
    assert command == (
        f"python train.py --config configs/{config}.yaml --config configs/overrides/"
        f"tiny_{task}.yaml --data.init_args.root {out}"
    )


def test_command_can_be_pasted_where_the_folder_has_a_space(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my data"
    out.mkdir()
    assert main(["rad", str(out), *TINY]) == 0
    assert capsys.readouterr().out.endswith(f"--data.init_args.root '{out}'\n")


def test_seed_decides_the_files(tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main(["rad", str(tmp_path / name), *TINY, "--seed", seed]) == 0
    first, again, other = ((tmp_path / n / "trn00001.npz").read_bytes() for n in "abc")
    assert first == again != other


def test_folder_with_something_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scan.npz").touch()
    assert main(["rad", str(tmp_path), *TINY]) == 2
    assert f"{tmp_path} is not empty, and nothing in it is replaced" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]


def test_file_in_place_of_the_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    assert main(["rad", str(tmp_path / "out"), *TINY]) == 2
    assert f"{tmp_path / 'out'} is a file" in capsys.readouterr().err


def test_unknown_task_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["brain", "out"])
    assert "'brain' (choose from 'rad', 'covid', 'images', 'folders', " in capsys.readouterr().err


def test_settings_are_checked_before_the_folder_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["covid", str(tmp_path / "out"), "--patients", "2"]) == 2
    assert "`patients` to be at least 3, but got 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_says_how_to_name_data_that_were_made_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", str(tmp_path / "out"), *TINY, "--apart"]) == 0
    made, _, command = capsys.readouterr().out.splitlines()
    assert made.startswith("Made 3 patients in 73 files (")
    assert (
        command
        == f"python -m lightning_fl.hospital.prepare_kit KIT --data {tmp_path / 'out' / 'A'}"
    )


def test_data_of_one_table_cannot_be_made_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rad", str(tmp_path / "out"), *TINY, "--apart"]) == 2
    assert "'rad' cannot be made apart; leave out --apart" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
