"""One page that shows what the latents of a run do, in any browser."""
