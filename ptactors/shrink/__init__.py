"""A failing run made small: the schedule, then the scenario around it, with a proof that it needs as many preemptions."""
