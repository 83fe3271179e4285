"""ptactors: an executable, explorable model of Linux page-table reclaim, TLB flushing and RCU on x86_64."""

__version__ = "0.1.0"
