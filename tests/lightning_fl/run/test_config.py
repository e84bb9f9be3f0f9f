"""The traps of configuration, each tried."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.run.config import make_parser, read_settings, resolve
from tests.folders import ROOT

QUICKSTART = ["--config", "configs/quickstart.yaml"]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def resolved(*arguments: str) -> dict[str, Any]:
    return resolve([*QUICKSTART, *arguments])


def test_later_configs_and_arguments_override_earlier_ones(tmp_path: Path) -> None:
    override = tmp_path / "short.yaml"
    override.write_text("rounds: 2\ntrainer:\n  local_steps: 7\n")
    settings = resolved("--config", str(override), "--rounds", "3")
    assert settings["rounds"] == 3
    assert settings["trainer"]["local_steps"] == 7
    assert settings["trainer"]["accelerator"] == "auto"


def test_nulls_two_levels_deep_stay_null() -> None:
    settings = resolved(
        *("--net.init_args.encoder_weights", "null", "--personalisation.candidates", "null"),
        *("--data.init_args.cache_dir", "null", "--task.init_args.foreground_prior", "null"),
    )
    assert settings["net"]["init_args"]["encoder_weights"] is None
    assert settings["personalisation"]["candidates"] is None
    assert settings["data"]["init_args"]["cache_dir"] is None
    assert settings["task"]["init_args"]["foreground_prior"] is None


def test_the_resolved_config_keeps_nulls_and_reads_back_the_same(tmp_path: Path) -> None:
    text = read_settings([*QUICKSTART, "--seed", "4"]).text
    assert "encoder_weights: null" in text
    file = tmp_path / "resolved.yaml"
    file.write_text(text)
    assert read_settings(["--config", str(file)]).text == text
    assert not {"config", "resume", "validate"} & set(yaml.safe_load(text))


def test_keys_of_dictionary_transforms_are_written_as_they_are(tmp_path: Path) -> None:
    flip = {"class_path": "monai.transforms.RandFlipd", "init_args": {"keys": ["image", "mask"]}}
    file = tmp_path / "flip.yaml"
    file.write_text(yaml.safe_dump({"data": {"init_args": {"augment": flip}}}))
    settings = yaml.safe_load(read_settings([*QUICKSTART, "--config", str(file)]).text)
    assert settings["data"]["init_args"]["augment"]["init_args"]["keys"] == ["image", "mask"]


def test_the_network_of_another_class_takes_its_own_settings() -> None:
    override = ["--config", "configs/overrides/monai_basic_unet.yaml"]
    settings = yaml.safe_load(read_settings([*QUICKSTART, *override]).text)
    assert settings["net"]["class_path"].endswith("BasicUNet")
    assert "encoder_name" not in settings["net"]["init_args"]


def test_weights_begin_the_same_for_the_same_seed_and_differ_for_another() -> None:
    tasks = [read_settings([*QUICKSTART, "--seed", s]).experiment.task for s in ("1", "1", "2")]
    first = [next(task.parameters()) for task in tasks]
    assert first[0].equal(first[1])
    assert not first[0].equal(first[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithm", "FedPrx"], "Unknown `algorithm` 'FedPrx'; known are Centralised, Ditto,"),
        (["--algorithm", "lightning_fl.algorithms.FedPrx"], "Unknown `algorithm` 'FedPrx'; known"),
        (["--aggregator", "CKKS"], "Unknown `aggregator` 'CKKS'; known are CyclicCKKS, Plain."),
        (["--engine", "rya"], "Unknown `engine` 'rya'; known are Local, NVFlare, Ray."),
        (["--algorithm.server", "Adm"], "Unknown `server` 'Adm'; known are ServerAdam, ServerMom"),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_settings([*QUICKSTART, *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithm", "lightning_flx.FedAvg"], "No module named 'lightning_flx'"),
        (["--net", "Unt"], "Expected a dot import path string: Unt"),
        (["--aggregator.bits", "x"], "Expected a <class 'int'>. Got value: x"),
    ],
)
def test_what_the_parser_refuses_is_told_in_its_words(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings([*QUICKSTART, *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--privacy", "SiteLevelDP", "--privacy.noise_multiplier", "-1"], "at least 0 and finite"),
        (["--audit", "lightning_fl.audit.Audit", "--audit.seeds", "0"], "`audit.seeds` to be at"),
        (["--data.batch_size", "0"], "`batch_size` to be at least 1, but got 0"),
    ],
)
def test_a_value_that_a_class_refuses_is_told_in_its_own_words(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings([*QUICKSTART, *arguments])
    assert "Union" not in str(caught.value)  # jsonargparse's list of what it tried


def test_an_unknown_name_in_a_file_is_told_like_one_on_the_command_line(tmp_path: Path) -> None:
    override = tmp_path / "typo.yaml"
    override.write_text("algorithm:\n  class_path: FedPrx\n")
    with pytest.raises(ConfigError, match="Unknown `algorithm` 'FedPrx'; known are") as caught:
        resolved("--config", str(override))
    assert not {"Algorithm", "Lbfgs"} & set(str(caught.value).replace(",", "").split())


def test_a_class_of_the_project_may_have_its_short_name_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text(
        "algorithm: {class_path: FedAvg, init_args: {server: ServerAdam}}\n"
        "personalisation: {candidates: [{class_path: FineTune}, Mirror]}\n"
    )
    settings = resolved("--config", str(file), "--aggregator=plain", "--audit.candidates", "8")
    assert settings["algorithm"]["class_path"] == "lightning_fl.algorithms.FedAvg"
    server = settings["algorithm"]["init_args"]["server"]
    assert server["class_path"] == "lightning_fl.algorithms.ServerAdam"
    candidates = settings["personalisation"]["candidates"]
    assert [c["class_path"].rpartition(".")[2] for c in candidates] == ["FineTune", "Mirror"]
    assert settings["aggregator"]["class_path"] == "lightning_fl.aggregation.Plain"


@pytest.mark.parametrize("name", ["ray", "Ray", "lightning_fl.engines.Ray"])
def test_an_engine_may_have_its_short_name_anywhere(name: str, tmp_path: Path) -> None:
    files = [tmp_path / "name.yaml", tmp_path / "class.yaml"]
    files[0].write_text(f"engine: {name}\n")
    files[1].write_text(f"engine:\n  class_path: {name}\n  init_args:\n    workers: 2\n")
    forms = [
        ["--engine", name, "--engine.workers", "2"],
        [f"--engine={name}", "--engine.workers=2"],
        ["--config", str(files[0]), "--engine.workers", "2"],
        ["--config", str(files[1])],
    ]
    for form in forms:
        engine = resolved(*form)["engine"]
        assert engine["class_path"] == "lightning_fl.engines.Ray"
        assert engine["init_args"]["workers"] == 2


def test_sites_live_in_this_process_unless_told_otherwise(tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    del settings["engine"]
    file = tmp_path / "no_engine.yaml"
    file.write_text(yaml.safe_dump(settings))
    for arguments in ([], ["--engine", "local"]):
        text = read_settings(["--config", str(file), *arguments]).text
        assert yaml.safe_load(text)["engine"]["class_path"] == "lightning_fl.engines.Local"
    assert resolved("--engine.timeout", "7")["engine"]["init_args"] == {"timeout": 7.0}


def test_help_fits_on_a_few_screens() -> None:
    text = make_parser().format_help()
    assert len(text.splitlines()) < 260  # classes of other tests may be listed, too
    assert "--resume" in text
    assert "torch.nn.ReLU" not in text
    assert "lightning_fl.algorithms.PerFedAvg" in text


def test_a_config_that_names_a_path_of_the_version_before_is_told_the_new_one(
    tmp_path: Path,
) -> None:
    text = (ROOT / "configs" / "quickstart.yaml").read_text()
    old = text + "audit:\n  class_path: lightning_fl.privacy.Audit\n"
    (tmp_path / "config.yaml").write_text(old)
    message = r"lightning_fl\.privacy\.Audit, which is lightning_fl\.audit\.Audit since"
    with pytest.raises(ConfigError, match=rf"The config names {message}"):
        resolved("--config", str(tmp_path / "config.yaml"))
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/config\.yaml names {message}"):
        read_settings(["--resume", str(tmp_path)])


def test_a_new_class_begins_with_its_own_defaults() -> None:
    """FedAvg after LateLocal keeps no personal layers, whatever lies between the two."""
    fedavg = ["--config", "configs/overrides/fedavg.yaml"]
    alone = resolved(*fedavg)["algorithm"]
    for between in ("fedper", "monai_basic_unet", "fedprox"):
        settings = resolved("--config", f"configs/overrides/{between}.yaml", *fedavg)
        assert settings["algorithm"] == alone
    assert resolved("--algorithm", "FedAvg")["algorithm"] == alone
    assert resolved("--algorithm=fedavg")["algorithm"] == alone


def test_the_data_of_another_class_take_nothing_of_the_phantoms() -> None:
    own = ["--data", "datamodules.ImageFolder", "--data.init_args.root", "images"]
    data = resolve([*QUICKSTART, *own])["data"]["init_args"]
    assert (data["size"], data["augment"]) == (None, None)


def test_a_class_inside_of_another_begins_with_its_own_defaults() -> None:
    sgd = resolved("--task.init_args.optimizer", "torch.optim.SGD", "--task.optimizer.lr", "0.1")
    assert sgd["task"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.1
    adam = resolved("--task.init_args.optimizer", "torch.optim.AdamW")["task"]["init_args"]
    assert adam["optimizer"]["init_args"]["lr"] == 0.001
    assert adam["foreground_prior"] == 0.1


def test_options_of_the_same_class_stay_whatever_comes_between() -> None:
    settings = resolved(
        *("--algorithm.init_args.share", "0.25", "--algorithm", "LateLocal"),
        *("--config", "configs/overrides/compact_ring.yaml"),
    )
    assert settings["algorithm"]["init_args"]["share"] == 0.25
    assert settings["aggregator"]["init_args"]["bits"] == 16


def test_what_a_net_keeps_of_the_one_before_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fpn = ["--net", "segmentation_models_pytorch.FPN", "--net.init_args.encoder_depth", "5"]
        read_settings([*QUICKSTART, *fpn])
    [record] = [
        r.getMessage() for r in caplog.records if "keeps of the net before" in r.getMessage()
    ]
    assert "encoder_name=tu-lcnet_050" in record
    assert "encoder_depth" not in record
    caplog.clear()
    with caplog.at_level("INFO"):
        read_settings(QUICKSTART)
    assert not caplog.records


def test_numbers_stay_numbers_where_another_class_is_forgotten(tmp_path: Path) -> None:
    override = tmp_path / "rate.yaml"
    override.write_text(
        "algorithm: FedPer\ntask: {init_args: {optimizer: {init_args: {lr: 1e-3}}}}\n"
    )
    fedavg = ["--config", "configs/overrides/fedavg.yaml"]
    task = resolved("--config", str(override), *fedavg)["task"]["init_args"]
    assert task["optimizer"]["init_args"]["lr"] == 0.001


def test_no_rounds_are_refused_with_any_algorithm() -> None:
    for algorithm in ("FedAvg", "LateLocal"):
        settings = read_settings([*QUICKSTART, "--algorithm", algorithm, "--rounds", "0"])
        with pytest.raises(ConfigError, match="Expected `rounds` to be at least 1, but got 0"):
            settings.experiment.plan()


def test_a_list_of_classes_may_be_one_class() -> None:
    settings = resolved(
        *("--callbacks", "pytorch_lightning.callbacks.Timer", "--callbacks.interval", "epoch"),
        "--loggers=pytorch_lightning.loggers.CSVLogger",
        *("--loggers.save_dir", "logs", "--personalisation.candidates", "FineTune"),
    )
    [callback], [logger] = settings["callbacks"], settings["loggers"]
    assert callback["class_path"] == "pytorch_lightning.callbacks.Timer"
    assert callback["init_args"]["interval"] == "epoch"
    assert logger["init_args"]["save_dir"] == "logs"
    [candidate] = settings["personalisation"]["candidates"]
    assert candidate["class_path"] == "lightning_fl.personalisation.FineTune"
    alone = resolved("--callbacks", "pytorch_lightning.callbacks.Timer")
    assert alone["callbacks"][0]["init_args"]["interval"] == "step"
    assert resolved("--callbacks", "[]")["callbacks"] == []


NEEDY = """
import pytorch_lightning as pl
from torch import nn

class Callback(pl.Callback):
    def __init__(self):
        import package_that_is_nowhere

class Net(nn.Module):
    def __init__(self):
        raise FileNotFoundError("cannot find the requested files in the local cache.")
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--callbacks", "needy.Callback"], r"No module named .*pip install package_that_is_nowh"),
        (["--net", "needy.Net"], r"in the local cache\. .*~/.cache/huggingface.*weights null"),
    ],
)
def test_what_is_not_on_the_machine_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "needy.py").write_text(NEEDY)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_settings([*QUICKSTART, *arguments])


def test_a_class_of_a_package_that_is_missing_is_told_with_the_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        read_settings([*QUICKSTART, "--loggers", "package_that_is_nowhere.Logger"])
    assert "Install its package by pip" in capsys.readouterr().err
