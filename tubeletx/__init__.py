"""Tubelet-contrastive self-supervision for video: compiled operators, tubelet sampler, pair maker, queue InfoNCE."""

from tubeletx._library import build_info

__version__ = build_info()["version"]

__all__ = ["build_info"]
