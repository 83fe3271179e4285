"""Who moves next: actors, the baton, hosts, strategies, schedules. Knows steps, not page tables."""
