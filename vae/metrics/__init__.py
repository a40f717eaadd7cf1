"""Measures of a trained model, in nats, with standard errors."""
