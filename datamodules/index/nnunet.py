"""Data sets in the folders of nnU-Net."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from datamodules.index.files import patient_of
from datamodules.index.index import Index, checked
from datamodules.index.json_file import read_json
from datamodules.index.row import Row
from lightning_fl.errors import ConfigError, DataError

SPLITS = "splits_final.json"


class NnUnet(Index):
    """Read raw data sets of nnU-Net, one a hospital.

    A data set has dataset.json, imagesTr/<case>_0000, _0001, ... for its channels, and
    labelsTr/<case>. The validation cases of a split in splits_final.json are the patients whom that
    fold tests; set `folds` of the data module to use them.

    Args:
        datasets: folder of each hospital's data set, by the hospital's name.
        splits: splits_final.json of a hospital, by its name. Where it is not named, the file in the
            data set's folder is used, if there is one.
        patient: "file" makes each case a patient; a regular expression with one group searches the
            case's name, e.g. "^(patient[0-9]+)_".
    """

    def __init__(
        self,
        datasets: Mapping[str, str | Path],
        *,
        splits: Mapping[str, str | Path] | None = None,
        patient: str = "file",
    ) -> None:
        self.datasets = {site: Path(folder).expanduser() for site, folder in datasets.items()}
        self.splits = {site: Path(path).expanduser() for site, path in (splits or {}).items()}
        self.patient = patient
        unknown = sorted(set(self.splits) - set(self.datasets))
        if unknown or not datasets:
            raise ConfigError(
                f"`splits` names {unknown}, but `datasets` has the hospitals {list(self.datasets)}."
            )

    def rows(self) -> tuple[Row, ...]:
        """Return the rows, hospital by hospital, by the names of cases."""
        return checked(
            (row for site in self.datasets for row in self._rows(site)), local_patients=True
        )

    def _rows(self, site: str) -> Iterator[Row]:
        folder = self.datasets[site]
        settings = read_json(folder / "dataset.json", dict)
        ending = settings.get("file_ending", ".nii.gz")
        channels = settings.get("channel_names") or settings.get("modality")
        if not channels:
            raise DataError(f"{folder / 'dataset.json'} names no channels; add `channel_names`.")
        masks = sorted((folder / "labelsTr").glob(f"*{ending}"))
        if not masks:
            raise DataError(
                f"{folder / 'labelsTr'} holds no file {ending!r}; correct `file_ending` in "
                f"{folder / 'dataset.json'} or add the masks."
            )
        cases = {mask.name.removesuffix(ending): mask for mask in masks}
        folds = self._folds(site, folder / SPLITS, cases)
        for case, mask in cases.items():
            images = [folder / "imagesTr" / f"{case}_{n:04d}{ending}" for n in range(len(channels))]
            for image in images:
                if not image.is_file():
                    raise DataError(f"{mask} has no image {image}; add it or remove the mask.")
            patient = patient_of(case, self.patient, str(mask))
            yield Row(site, patient, tuple(images), mask, {}, None, folds.get(case), str(mask))
        for image in sorted((folder / "imagesTr").glob(f"*_0000{ending}")):
            if image.name.removesuffix(f"_0000{ending}") not in cases:
                raise DataError(f"{image} has no mask in {folder / 'labelsTr'}; add or remove it.")

    def _folds(self, site: str, beside: Path, cases: Mapping[str, Path]) -> dict[str, int]:
        """Return the fold whose validation cases hold a case."""
        path = self.splits.get(site, beside)
        if site not in self.splits and not beside.is_file():
            return {}
        folds: dict[str, int] = {}
        for number, split in enumerate(read_json(path, list)):
            for case in split["val"]:
                if case not in cases:
                    raise DataError(f"{path}, split {number}: there is no case {case!r}.")
                folds[case] = number
        return folds
