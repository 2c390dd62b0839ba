"""Gaussian mixtures of tied states, and the linear transforms that are estimated with them."""
