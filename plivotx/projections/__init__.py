"""What the events mean: pure folds over the log."""
