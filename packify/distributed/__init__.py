"""An ensemble over many devices: members share nothing, so each process trains its own, and only data parallelism communicates."""
