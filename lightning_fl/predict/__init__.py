"""Finished runs: their models, and predictions for new scans."""
