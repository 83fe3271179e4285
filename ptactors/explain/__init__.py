"""Why a run is as it is: where two part, what a hazard hangs on, what led to an entry of a TLB, a table, a frame or a lock."""
