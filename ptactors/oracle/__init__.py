"""What must never be. Oracles read events only; they rebuild what they need and so bear independent witness."""
