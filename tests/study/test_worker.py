import sys
from pathlib import Path

import pytest

from lightning_fl.errors import ConfigError
from study.worker import load_train


def test_a_study_outside_the_repository_says_where_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "train", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[-1:])  # without an editable install's
    with pytest.raises(ConfigError, match=r"There is no train.py in .* in the repository's root"):
        load_train()


def test_a_broken_import_inside_train_is_not_taken_for_a_missing_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("import no_such_package")
    monkeypatch.delitem(sys.modules, "train", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_train()
