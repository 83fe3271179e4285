"""How the next turn is chosen: one class a strategy, one line in ``table.STRATEGIES``."""
