"""Attacks that recover images from updates."""
