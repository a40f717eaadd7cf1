"""Measures of a trained model, in nats, with standard errors."""

# A latent whose posterior mean varies more than this over images is active
# (Burda et al. 2015, section 5.2).
ACTIVE_VARIANCE = 0.01
