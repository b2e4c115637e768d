"""Tubelet-contrastive pretraining, and how what it learned is measured."""
