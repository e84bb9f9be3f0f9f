"""Paths with placeholders: which files they match, and what the placeholders stand for."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from datamodules.index.files import SUFFIXES
from lightning_fl.errors import ConfigError, DataError

FIELDS = ("site", "part", "patient", "label", "name")
"""Placeholders, e.g. "{site}/{part}/images/{name}"."""


class Template:
    """Match files below a root, e.g. by "{site}/masks/{name}_mask".

    A suffix may be left out, and then any suffix of an image will do. A template that ends with "/"
    or with a fixed name also matches folders, which hold the series of a scan.

    Args:
        text: path relative to the root.

    Raises:
        ConfigError: a placeholder is unknown.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields = tuple(dict.fromkeys(re.findall(r"{(\w*)}", text)))
        if not set(self.fields) <= set(FIELDS):
            raise ConfigError(f"{text!r} has a placeholder that is none of {', '.join(FIELDS)}.")
        self.series = "{" not in text.rpartition("/")[2]
        pattern = re.escape(text.rstrip("/")).replace(r"\{", "{").replace(r"\}", "}")
        for field in self.fields:
            pattern = pattern.replace(f"{{{field}}}", f"(?P<{field}>[^/]+?)", 1)
            pattern = pattern.replace(f"{{{field}}}", f"(?P={field})")
        any_suffix = "|".join(map(re.escape, SUFFIXES))
        suffix = "" if text.lower().endswith(SUFFIXES) else f"(?:{any_suffix})"
        self.pattern = re.compile(pattern + suffix, re.IGNORECASE)
        self.folder = re.compile(pattern)

    def find(self, root: Path, sites: Collection[str] | None) -> dict[tuple[str, ...], Path]:
        """Return the files of some sites by what the placeholders stand for, sorted by path.

        Without `sites` all are searched but hidden folders.

        Raises:
            DataError: two files differ in nothing but the suffix.
        """
        files: dict[tuple[str, ...], Path] = {}
        # `**` would mean any depth
        any_name = re.sub(r"({\w+}|\*)+", "*", self.text.rstrip("/") + "*")
        for path in sorted(root.glob(any_name)):
            name = path.relative_to(root).as_posix()
            pattern = self.folder if self.series and path.is_dir() else self.pattern
            match = pattern.fullmatch(name)
            if match is None or path.name.startswith("."):
                continue
            site = match["site"] if "site" in self.fields else None
            if site and (site[0] in "._" if sites is None else site not in sites):
                continue
            key = tuple(match[field] for field in self.fields)
            if key in files:
                raise DataError(
                    f"{files[key]} and {path} differ only in their suffix, so which image has "
                    "which mask is not clear; rename or remove one."
                )
            files[key] = path
        return files

    def values(self, key: tuple[str, ...]) -> dict[str, str]:
        """Return what each placeholder stands for in a key of `find`."""
        return dict(zip(self.fields, key, strict=True))

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the path, without suffix, that the placeholders' values give."""
        return re.sub(r"{(\w+)}", lambda match: values[match[1]], self.text)
