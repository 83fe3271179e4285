"""Events to and from structlog JSON lines."""
