"""Take a trained network out of a run, for programs that know nothing of lightning_fl."""

from lightning_fl.export.model_export import export_model as export_model
