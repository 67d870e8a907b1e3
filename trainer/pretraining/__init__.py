"""Contrastive pretraining of encoders."""
