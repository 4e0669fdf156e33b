"""Where a sweep runs: one file per executor."""
