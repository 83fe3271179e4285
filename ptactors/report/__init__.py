"""Pictures and text made of logs."""
