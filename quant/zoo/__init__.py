"""The shipped models: their data and their training."""
