"""What is known of a training set."""
