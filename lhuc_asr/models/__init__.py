"""Acoustic models: networks that turn features into log-probabilities of tied states."""
