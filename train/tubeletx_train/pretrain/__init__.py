"""Tubelet-contrastive pretraining."""
