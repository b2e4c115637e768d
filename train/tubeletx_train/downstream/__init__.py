"""Measurements of an encoder on labelled videos."""
