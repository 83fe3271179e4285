"""Many runs of a scenario's cells: counted, judged, and the witness of what was found kept."""
