"""Many runs: what is planned, who trains it, and what came of it."""
