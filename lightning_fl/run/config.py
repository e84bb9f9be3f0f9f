"""The command line and YAML files of a run, read by jsonargparse from `Experiment`'s signature."""

import argparse
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import (  # type: ignore[attr-defined]  # ActionConfigFile is public
    ActionConfigFile,
    ArgumentParser,
    Namespace,
    get_loader,
    set_loader,
)

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text
from lightning_fl.run import class_names, lists_of_classes
from lightning_fl.run.class_changes import begin_anew, kept_of_net
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.import_paths import import_paths
from lightning_fl.run.moved_paths import refuse_moved
from lightning_fl.run.setting_errors import own_error, task_of
from lightning_fl.run_files import CONFIG
from lightning_fl.training.task import SETTINGS, add_task_settings

_log = logging.getLogger(__name__)
MAY_CHANGE = frozenset(
    {
        "rounds",
        "min_sites",
        "engine",
        "trainer.accelerator",
        "trainer.device",
        "trainer.deterministic",
        "trainer.curves",
        "evaluation.patience",
        "data.init_args.root",  # a site compares its patients with those that the run began with
        "data.init_args.cache_dir",
        "data.init_args.num_workers",
        "callbacks",
        "audit",  # comes after all else, and changes nothing of it
        "loggers",
        "output",
    }
)
"""Settings that may change when a run is resumed."""
ELSEWHERE = "lightning_fl.data.elsewhere.DataElsewhere"
"""The data module of a coordinator without data; a name, since --help offers what is imported."""
COMMANDS = ("config", "resume", "validate")
"""Arguments that name an action and are no setting of the run."""
MODE = "yaml with short names"
"""Name under which jsonargparse reads the project's files."""


def _load(text: str) -> Any:
    """Read the text of a config file, or of one value of the command line."""
    settings = get_loader("yaml")(text)
    refuse_moved(import_paths(settings), "The config")
    return class_names.in_settings(settings)


set_loader(MODE, _load, (yaml.YAMLError,))
# jsonargparse leaves an enumeration that is a default as it is
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, data: dumper.represent_data(data.value))


class Parser(ArgumentParser):
    """An argument parser whose --help fits on a few screens.

    jsonargparse lists every class that a setting may name. For a network that is each module of
    torch. Long lists are left out here, and `--net.help CLASS` shows the settings of a class.
    """

    def parse_args(self, args: Sequence[str] | None = None, **settings: Any) -> Namespace:  # type: ignore[override]
        """Parse a command line.

        The project's classes may have their short names in it, and a class that replaces another
        begins with its own defaults.
        """
        args = class_names.in_arguments(sys.argv[1:] if args is None else args)
        args = begin_anew(lists_of_classes.in_arguments(args))
        return super().parse_args(args, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with the message; say what to do about a module that is not there."""
        if "No module named" in message:
            message += "\n  Install its package by pip, or correct the path of the class."
        super().error(message, ex)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Return the help text without long lists of classes and without the usage block."""
        text: str = super().format_help(formatter)
        text = re.sub(r",\s+known\s+subclasses:([^)]*)", _short_list, text)
        return self.format_usage() + text[text.index("\n\n") :]

    def format_usage(self) -> str:
        """Return the two ways to call train.py, instead of every setting in brackets."""
        return (
            "usage: train.py --config CONFIG [--config OVERRIDES] [--SETTING VALUE ...]\n"
            "       train.py --resume RUN [--rounds N]\n"
        )


def _short_list(match: re.Match[str]) -> str:
    names = [name.strip() for name in re.sub(r"\s+", "", match[1]).split(",")]
    return match[0] if len(names) <= 12 else ""


def make_parser() -> Parser:
    """Make the parser of train.py."""
    parser = Parser(
        prog="train.py",
        description="Train a federation of hospitals; see configs/ for complete examples.",
        parser_mode=MODE,
        # without this, --net.init_args.encoder is silently taken for some longer name
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action=ActionConfigFile,
        help="YAML file with settings; give it again to stack overrides on it.",
    )
    parser.add_argument("--resume", type=str | None, help="Folder of a run to go on with.")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="Check settings, data and shapes by one training step at each site, then stop.",
    )
    add_task_settings(parser)
    parser.add_class_arguments(Experiment, skip={"task"})
    parser.set_defaults({"engine": {"class_path": "lightning_fl.engines.Local"}})
    return parser


@dataclass(frozen=True)
class Settings:
    """A parsed command line.

    Attributes:
        experiment: the settings, instantiated.
        folder: of the run. To `validate`, it need not be there, and gets a picture of the data.
        validate: only check.
        text: the resolved settings as YAML, nulls included; running it gives the same numbers.
    """

    experiment: Experiment
    folder: Path
    validate: bool
    text: str

    def save(self) -> None:
        """Write config.yaml into the run's folder, which is made if it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / CONFIG, self.text)


def read_settings(arguments: Sequence[str]) -> Settings:
    """Parse a command line, choose the run's folder and build everything that YAML names.

    Args:
        arguments: without the program's name.

    Raises:
        ConfigError: the folder holds another run, or a resumed run was given other settings.
        SystemExit: an unknown key, a wrong type or a missing file, with jsonargparse's message.
    """
    early, _ = _early_parser().parse_known_args(arguments)
    parser = make_parser()
    if early.resume is None:
        cfg = parser.parse_args(list(arguments))
        planned = cfg.rounds
        _say_what_net_keeps(arguments, cfg)
    else:
        saved = Path(early.resume) / CONFIG
        if not saved.is_file():
            raise ConfigError(f"There is no run to resume in {early.resume!r}: no {saved}.")
        before = yaml.safe_load(saved.read_text(encoding="utf-8"))
        refuse_moved(import_paths(before), str(saved))
        planned = before["rounds"]
        cfg = parser.parse_args(["--config", str(saved), *arguments])
        # read again, so that it has settings that versions since then have added
        began = _dump(parser, parser.parse_args(["--config", str(saved)]))
        refuse_changes(yaml.safe_load(began), yaml.safe_load(_dump(parser, cfg)), saved)
    if early.validate:
        folder = Path(early.resume or cfg.output or _timed_folder(early.config))
    else:
        folder = Path(early.resume) if early.resume else _new_folder(cfg, early.config)
    experiment = _build(parser, cfg)
    experiment = replace(experiment, algorithm=experiment.algorithm.for_rounds(planned))
    for name, value in experiment.algorithm.decided().items():
        cfg[f"algorithm.init_args.{name}"] = value
    return Settings(experiment, folder, early.validate, _dump(parser, cfg))


def _say_what_net_keeps(arguments: Sequence[str], cfg: Namespace) -> None:
    """Name the settings of a net that it has from the net of an earlier config."""
    settings = cfg.net.get("init_args") or {}
    kept = [f"{k}={settings[k]}" for k in sorted(kept_of_net(arguments)) if k in settings]
    if kept:
        _log.info("%s keeps of the net before it: %s", cfg.net.class_path, ", ".join(kept))


def resolve(arguments: Sequence[str]) -> dict[str, Any]:
    """All settings of a command line, defaults included, without building any of them.

    Raises:
        ConfigError: an unknown key, a wrong type or a missing file.
    """
    parser = make_parser()
    parser.exit_on_error = False
    try:
        cfg = parser.parse_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    settings: dict[str, Any] = yaml.safe_load(_dump(parser, cfg))
    return settings


def experiment_of(text: str) -> Experiment:
    """Build what the text of a config.yaml names.

    Raises:
        ConfigError: an unknown key, a wrong type, or a class that is not there.
    """
    parser = make_parser()
    parser.exit_on_error = False
    try:
        return _build(parser, parser.parse_args(["--config", text]))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error


def _early_parser() -> argparse.ArgumentParser:
    """Find --resume and --validate before jsonargparse needs a complete configuration."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--config", action="append", default=[])
    return parser


def _build(parser: Parser, cfg: Namespace) -> Experiment:
    sites = (cfg.engine.get("init_args") or {}).get("sites")
    if sites:  # the data are at the hospitals, which read the settings of `data` for themselves
        unseen = list((cfg.data.get("init_args") or {}).get("unseen") or ())
        cfg = cfg.clone()
        named = Namespace(sites=sites, unseen=unseen)  # type: ignore[no-untyped-call]
        cfg.data = Namespace(class_path=ELSEWHERE, init_args=named)  # type: ignore[no-untyped-call]
    others = cfg.clone()
    for name in SETTINGS:
        others.pop(name)
    try:
        task = task_of(yaml.safe_load(_dump(parser, cfg)), cfg.seed)
        values = parser.instantiate(others)
    except (ValueError, ImportError) as error:
        own = own_error(error)
        if own is error:
            raise
        raise own from error
    fields = {k: v for k, v in values.items(branches=True) if k in Experiment.__dataclass_fields__}
    return Experiment(task=task, **fields)


def _new_folder(cfg: Namespace, configs: Sequence[str]) -> Path:
    """Choose the folder of a new run, which must not hold another one."""
    if cfg.output is None:
        return _unique_folder(_timed_folder(configs))
    folder = Path(cfg.output)
    # a run that failed its first check has left no round, and may be started again
    if any(folder.glob("checkpoints/round-*")) or any(folder.glob("*/checkpoints/round-*")):
        raise ConfigError(
            f"{folder} already holds a run. Go on with it by --resume {folder}, or choose another "
            "folder with --output."
        )
    return folder


def _timed_folder(configs: Sequence[str]) -> Path:
    name = Path(configs[0]).stem if configs else "run"
    return Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S")


def _unique_folder(folder: Path) -> Path:
    """Make a folder that no other run has, also where two start in the same second."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in count(2):
        try:
            folder.mkdir()
        except FileExistsError:
            folder = folder.with_name(f"{folder.name.split('.')[0]}.{number}")
        else:
            break
    return folder


def _dump(parser: Parser, cfg: Namespace) -> str:
    settings = cfg.clone()
    for command in COMMANDS:
        settings.pop(command, None)
    # a null that is left out would come back as the default, e.g. as imagenet weights
    text: str = parser.dump(settings, skip_unset=False, skip_validation=True)
    return text


def refuse_changes(before: Mapping[str, Any], after: Mapping[str, Any], saved: Path) -> None:
    """Refuse other settings than a run began with, those in MAY_CHANGE aside.

    Raises:
        ConfigError: names the settings that differ from those in the file `saved`.
    """
    if changed := changed_settings(before, after):
        raise ConfigError(
            f"A resumed run keeps its settings, but {changed} differ from {saved}. Leave them as "
            f"they are (only {sorted(MAY_CHANGE)} may change) or start a new run."
        )


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ, of those that a run has to keep from beginning to end."""
    old, new = _flat(before), _flat(after)
    return [key for key in (old | new) if key not in MAY_CHANGE and old.get(key) != new.get(key)]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name the settings of the Trainer, of the evaluation and of the data one by one."""
    parts = {key: settings[key] for key in ("trainer", "evaluation")}
    flat = {key: value for key, value in settings.items() if key not in (*parts, "data")}
    data = settings["data"]
    parts["data.init_args"] = data.get("init_args") or {}
    named = {f"{part}.{k}": v for part, values in parts.items() for k, v in values.items()}
    return flat | {"data": data["class_path"]} | named
