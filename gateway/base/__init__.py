"""What everything else may use, and what uses nothing of the hub itself: types of settings, back-off, texts."""
