"""Questions asked of saved logs."""
