"""What processors are made of: requests taken apart and put together again, values, conditions, patterns."""
