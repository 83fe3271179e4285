"""The scenario language: TOML files, programs, conditions, matrices, and errors that point at the place."""
