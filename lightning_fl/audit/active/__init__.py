"""Attacks of a coordinator that lies, against sites with their defences and without."""
