"""The words everyone shares: levels and entry bits, cells, steps, events, hazards. No trio, no structlog."""
